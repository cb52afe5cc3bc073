library(cml)
ws <- launch.workers(1, 0.2, 0.2, code = "warning('careful')\nstop('on purpose')")
f <- await.workers(ws)$failures[[1]]
stopifnot(f$status == "failed", f$exit_code == 1)
refused <- launch.workers(1, 0.1, 4000, code = "1")
stopifnot(is.null(refused[[1]]$id), nchar(refused[[1]]$message) > 0)
stopifnot(identical(get.auth()$user, Sys.getenv("CDSW_API_KEY")))
# says: careful
# says: on purpose
# says: 1 worker refused
