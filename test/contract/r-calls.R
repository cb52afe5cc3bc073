library(cdsw)
ws <- launch.workers(n = 2, cpu = 0.2, memory = 0.2, env = "", code = "cat('R worker', Sys.getenv('CDSW_ENGINE_TYPE'), '\\n')")
stopifnot(length(ws) == 2, nchar(ws[[1]]$id) == 16, ws[[1]]$kernel == "r", is.list(ws[[1]]))
r <- await.workers(ws)
stopifnot(identical(sort(names(r)), c("failures", "workers")), length(r$workers) == 2, length(r$failures) == 0)
stopifnot(length(list.workers()) == 2, list.workers()[[1]]$id == ws[[2]]$id)
stays <- launch.workers(n = 1, cpu = 0.2, memory = 0.1, kernel = "python3", code = "import time; time.sleep(1000)")
running <- await.workers(stays, wait_for_completion = FALSE)
stopifnot(running$workers[[1]]$status == "running", running$workers[[1]]$ip_address != "unknown")
stop.workers(stays[[1]]$id)
stopifnot(await.workers(stays)$failures[[1]]$status == "stopped")
# prints: R worker worker
# prints: R worker worker
