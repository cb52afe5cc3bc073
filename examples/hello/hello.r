# Launch two workers that say who and where they are.

library(cdsw)

say_hello <- '
cat("Hello from worker", Sys.getenv("CDSW_ENGINE_ID"), "at", Sys.getenv("CDSW_IP_ADDRESS"), "\\n")
'

workers <- launch.workers(n = 2, cpu = 0.2, memory = 0.5, env = "", code = say_hello)
result <- await.workers(workers)
cat(length(result$workers), "succeeded,", length(result$failures), "failed\n")
