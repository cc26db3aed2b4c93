# slicer_add_python_unittest: a test that a real Slicer runs. Here it is only listed; run without Slicer, it fails as not found.

function(stub_add_slicer_test name module)
  add_test(NAME ${name} COMMAND Slicer --no-splash --testing --python-code "import slicer.testing\\; slicer.testing.runUnitTest(['${CMAKE_CURRENT_SOURCE_DIR}'], '${module}')")
  set_property(TEST ${name} PROPERTY RUN_SERIAL TRUE)
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(UNIT "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  if(UNIT_UNPARSED_ARGUMENTS OR NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${UNIT_SCRIPT})
    message(FATAL_ERROR "slicer_add_python_unittest: no script ${UNIT_SCRIPT}, or unknown keywords '${UNIT_UNPARSED_ARGUMENTS}'")
  endif()
  get_filename_component(name ${UNIT_SCRIPT} NAME_WE)
  stub_add_slicer_test(py_${UNIT_TESTNAME_PREFIX}${name} ${name})
endfunction()
