# The peers in R, called by bench/rpackages.py: Rscript --vanilla rpackages.R PEER RUNS. Prints one line for each call, in milliseconds.
# Sys.time() has microseconds. What is tidied up, and the first two calls, are outside of the time.
arguments <- commandArgs(trailingOnly = TRUE)
runs <- as.integer(arguments[[2]])
work <- function() "first line"

peers <- list(
  "callr-cold" = function() {
    list(once = function() callr::r(work))
  },
  "callr-warm" = function() {
    session <- callr::r_session$new(wait = TRUE)
    list(once = function() session$run(work), end = function() session$close())
  },
  "parallel-start" = function() {
    cluster <- NULL
    list(
      once = function() {
        cluster <<- parallel::makePSOCKcluster(1L)
        parallel::clusterCall(cluster, work)[[1L]]
      },
      tidy = function() parallel::stopCluster(cluster)
    )
  },
  "parallel-fork" = function() {
    list(once = function() parallel::mccollect(parallel::mcparallel(work()))[[1L]])
  },
  "parallel-warm" = function() {
    cluster <- parallel::makePSOCKcluster(1L)
    list(once = function() parallel::clusterCall(cluster, work)[[1L]], end = function() parallel::stopCluster(cluster))
  },
  "mirai-start" = function() {
    list(
      once = function() {
        mirai::daemons(1L)
        mirai::call_mirai(mirai::mirai("first line"))$data
      },
      tidy = function() mirai::daemons(0L)
    )
  },
  "mirai-warm" = function() {
    mirai::daemons(1L)
    list(once = function() mirai::call_mirai(mirai::mirai("first line"))$data, end = function() mirai::daemons(0L))
  }
)

peer <- peers[[arguments[[1]]]]()
for (i in seq_len(runs + 2L)) {
  start <- Sys.time()
  line <- peer$once()
  took <- as.numeric(difftime(Sys.time(), start, units = "secs")) * 1000
  if (!identical(line, "first line")) stop("the call returned ", deparse(line))
  if (!is.null(peer$tidy)) peer$tidy()
  if (i > 2L) cat(sprintf("%.4f\n", took))
}
if (!is.null(peer$end)) invisible(peer$end())
