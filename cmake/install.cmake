# What `cmake --install` puts where. The man page and the completions are
# printed by the program itself.
foreach(text man "completion bash" "completion zsh")
  string(REPLACE " " "." file "nres.${text}")
  add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/${file}
    COMMAND sh -c "'$<TARGET_FILE:nres_program>' ${text} > '${file}.part' && mv '${file}.part' '${file}'"
    WORKING_DIRECTORY ${PROJECT_BINARY_DIR} DEPENDS nres_program VERBATIM)
  list(APPEND NRES_TEXTS ${PROJECT_BINARY_DIR}/${file})
endforeach()
add_custom_target(nres_texts ALL DEPENDS ${NRES_TEXTS})

# Static linking needs the libraries that libnres stands on, so they are named
# in Requires and Libs, not in their private forms.
set(NRES_PC_REQUIRES "jansson zlib libzstd libcrypto gumbo")
set(NRES_PC_LIBS "-lgomp -lm -lpthread")
if(NRES_ONEDNN)
  string(PREPEND NRES_PC_LIBS "-ldnnl ")
endif()
if(NRES_HAS_YAML)
  string(APPEND NRES_PC_REQUIRES " yaml-0.1")
endif()
if(NRES_HAS_ARCHIVE)
  string(APPEND NRES_PC_REQUIRES " libarchive")
endif()
if(NRES_HAS_FASTTEXT)
  string(APPEND NRES_PC_REQUIRES " fasttext")
  string(APPEND NRES_PC_LIBS " -lstdc++")
endif()
file(RELATIVE_PATH NRES_PC_UP ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/nres.pc.in ${PROJECT_BINARY_DIR}/nres.pc @ONLY)

install(TARGETS nres_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(NRES_HAS_MPI)
  install(TARGETS nres_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/nres)
endif()
install(TARGETS nres
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_BINARY_DIR}/nres.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_BINARY_DIR}/nres.man DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 RENAME nres.1)
install(FILES ${PROJECT_BINARY_DIR}/nres.completion.bash
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME nres)
install(FILES ${PROJECT_BINARY_DIR}/nres.completion.zsh
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _nres)

# Definitions of tasks. A build finds those of the source tree through a link beside the program.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/tasks/ DESTINATION ${CMAKE_INSTALL_DATADIR}/nres/tasks FILES_MATCHING PATTERN "*.json")
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/share/nres)
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/tasks ${PROJECT_BINARY_DIR}/share/nres/tasks SYMBOLIC)
file(RELATIVE_PATH NRES_TASKS ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/nres/tasks)
target_compile_definitions(nres_program PRIVATE NRES_TASKS="${NRES_TASKS}")
