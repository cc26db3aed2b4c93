# slicerMacroBuildScriptedModule: scripts and resources keep their place relative to the calling folder, under qt-scripted-modules.

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown keywords ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT MODULE_NAME OR NOT MODULE_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME and SCRIPTS are mandatory, got NAME '${MODULE_NAME}'")
  endif()

  set(folder ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR})
  if(MODULE_WITH_SUBDIR)
    get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    string(APPEND folder /${name})
  endif()

  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    # A real Slicer copies a file from above this folder to above qt-scripted-modules, where no package takes it.
    if(IS_ABSOLUTE "${file}" OR "/${file}/" MATCHES "/\\.\\./")
      message(FATAL_ERROR "${MODULE_NAME}: ${file} is not inside ${CMAKE_CURRENT_SOURCE_DIR}")
    endif()
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file} OR IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${MODULE_NAME}: listed file ${file} does not exist")
    endif()
    # All modules share one folder: a second file of the same name replaces the first without a word.
    get_property(taken GLOBAL PROPERTY STUB_INSTALLED)
    if("${folder}/${file}" IN_LIST taken)
      message(FATAL_ERROR "${MODULE_NAME}: ${file} is installed twice, or by two modules")
    endif()
    set_property(GLOBAL APPEND PROPERTY STUB_INSTALLED "${folder}/${file}")

    get_filename_component(subfolder ${file} DIRECTORY)
    install(FILES ${file} DESTINATION ${folder}/${subfolder} COMPONENT RuntimeLibraries)
  endforeach()

  if(BUILD_TESTING AND MODULE_WITH_GENERIC_TESTS)
    stub_add_slicer_test(py_nomainwindow_qSlicer${MODULE_NAME}ModuleGenericTest ${MODULE_NAME})
  endif()
endfunction()
