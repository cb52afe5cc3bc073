library(cdsw)
code <- "n <- length(list.files('.', '^attempt')); invisible(file.create(paste0('attempt', n))); cat('attempt', n, '\n'); quit(status = if (n < 1) 7 else 0)"
w <- launch.workers(n = 1, cpu = 0.2, memory = 0.2, code = code, retries = 2, timeout_seconds = 60, group = "tries")
done <- await.workers(group = "tries")
stopifnot(length(done$failures) == 0, done$workers[[1]]$attempt == 2, done$workers[[1]]$retry_of == w[[1]]$id)
stopifnot(identical(trimws(worker.logs(w[[1]])), "attempt 0"), identical(trimws(worker.logs(done$workers[[1]], tail = 1)), "attempt 1"))
again <- restart.workers(done$workers)
stopifnot(again[[1]]$restart_of == done$workers[[1]]$id, length(await.workers(again)$workers) == 1)
slow <- launch.workers(n = 1, cpu = 0.2, memory = 0.2, code = "Sys.sleep(1000)", timeout_seconds = 1)
stopifnot(await.workers(slow)$failures[[1]]$status == "timedout", length(list.workers(group = "tries")) == 3, length(list.workers()) == 4)
stopifnot(is.null(stop.workers(group = "tries")))
stopifnot(grepl("a group \"tires\"", tryCatch(await.workers(group = "tires"), error = conditionMessage), fixed = TRUE))
# prints: attempt 0
# prints: attempt 1
# prints: attempt 2
