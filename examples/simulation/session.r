# A parallel simulation: how long is a queue at a counter? Three workers simulate days, each with its own stream of random
# numbers, and send what they saw over sockets; the session compares it with the same days simulated by itself.

library(cdsw)
source("day.r")

N <- 3
PORT <- 6000

workers <- launch.workers(n = N, cpu = 0.3, memory = 0.5, script = "worker.r", env = list(PORT = PORT))

there <- vector("list", N)
for (i in seq_len(N)) {
  con <- socketConnection(host = "0.0.0.0", port = PORT, blocking = TRUE, server = TRUE, open = "r+b", timeout = 60)
  writeLines(as.character(i), con) # the stream that this worker is to use
  answer <- unserialize(con)
  close(con)
  there[[answer$stream]] <- answer
  cat("worker", answer$worker, "simulated", length(answer$waits), "days\n")
}
result <- await.workers(workers)
stopifnot("a worker failed" = length(result$failures) == 0, length(result$workers) == N)
engines <- vapply(there, function(a) a$worker, "")
stopifnot("not every worker answered" = setequal(engines, vapply(workers, function(w) w$id, "")))

here <- lapply(seq_len(N), days)
stopifnot("the workers' results differ from those computed here" = identical(lapply(there, function(a) a$waits), here))
waits <- unlist(here)
cat(sprintf("%d days: customers wait %.3f minutes on average (95%%: %.3f to %.3f), as without workers\n", length(waits), mean(waits),
            mean(waits) - 1.96 * sd(waits) / sqrt(length(waits)), mean(waits) + 1.96 * sd(waits) / sqrt(length(waits))))
