# Stands in for a Slicer build tree, so that the extension can be configured, its tests listed and its files installed without one.
# Written for this project; it knows only what a scripted extension uses, and refuses what a real Slicer would refuse or lose.
#
#   cmake -S . -B build -DSlicer_DIR=$PWD/Testing/cmakestub && cmake --install build --prefix tree

set(Slicer_VERSION_MAJOR 5)
set(Slicer_VERSION_MINOR 12)
set(Slicer_VERSION_PATCH 3)
set(Slicer_VERSION 5.12.3)

set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_SHARE_DIR share/Slicer-5.12)

set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/ExtensionGenerateConfig.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake)
