# The functions are imported from cdsw and exported again (NAMESPACE).

# library() then says nothing about socketConnection, which is masked on purpose: see package cdsw.
.onAttach <- function(libname, pkgname) {
  assign(".conflicts.OK", TRUE, envir = as.environment(paste0("package:", pkgname)))
  asNamespace("cdsw")$at_attach()
}
