# Attaching costs nothing and says nothing; both packages, in either order.
before <- loadedNamespaces()
said <- character()
withCallingHandlers({
  library(cdsw)
  library(cml)
}, message = function(m) said <<- c(said, conditionMessage(m)), warning = function(w) said <<- c(said, conditionMessage(w)))
stopifnot(length(said) == 0)
stopifnot(identical(sort(setdiff(loadedNamespaces(), before)), c("cdsw", "cml")))
stopifnot(identical(formals(socketConnection), formals(base::socketConnection)))
stopifnot(identical(cml::socketConnection, cdsw::socketConnection))
