# The same simulation with R's own cluster (package parallel): three workers wait, R starts itself on them by SSH, which needs
# neither keys nor passwords between the engines of one session.

library(cdsw)
source("day.r")

N <- 3
STREAMS <- 6

workers <- launch.workers(n = N, cpu = 0.3, memory = 0.5) # neither script nor code: they wait to be used
ready <- await.workers(workers, wait_for_completion = FALSE)
addresses <- vapply(ready$workers, function(w) w$ip_address, "")

cluster <- parallel::makePSOCKcluster(addresses, master = Sys.getenv("CDSW_IP_ADDRESS"))
engines <- unlist(parallel::clusterCall(cluster, Sys.getenv, "CDSW_ENGINE_ID"))
stopifnot("the cluster is not on the workers" = setequal(engines, vapply(workers, function(w) w$id, "")))
invisible(parallel::clusterEvalQ(cluster, source("day.r")))
there <- parallel::parLapply(cluster, seq_len(STREAMS), days)
parallel::stopCluster(cluster)
invisible(stop.workers())

here <- lapply(seq_len(STREAMS), days)
stopifnot("the workers' results differ from those computed here" = identical(there, here))
cat(sprintf("%d days on %d workers: customers wait %.3f minutes on average, as without workers\n", length(unlist(here)), N, mean(unlist(here))))
