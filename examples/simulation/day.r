# What session and workers agree on.

DAYS <- 200
CUSTOMERS <- 300

# day returns how many minutes a customer waits on average: one counter, one arrival each minute, 0.8 minutes for each.
day <- function() {
  between <- rexp(CUSTOMERS, rate = 1)
  service <- rexp(CUSTOMERS, rate = 1 / 0.8)
  wait <- numeric(CUSTOMERS)
  for (k in 2:CUSTOMERS) wait[k] <- max(0, wait[k - 1] + service[k - 1] - between[k])
  mean(wait)
}

# days simulates with stream number i: streams do not overlap, whoever uses them.
days <- function(i) {
  RNGkind("L'Ecuyer-CMRG")
  set.seed(20)
  for (k in seq_len(i - 1)) assign(".Random.seed", parallel::nextRNGStream(.Random.seed), envir = globalenv())
  vapply(seq_len(DAYS), function(d) day(), 0)
}
