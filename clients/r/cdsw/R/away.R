# Waiting for a server that went away. Sessions do not need theirs: one that was killed or is replaced is followed by another,
# which answers at the same address and knows what was launched.

# Seconds that a request waits for the next server, and after which a person is told that it does.
away <- new.env(parent = emptyenv())
away$patience <- 60
away$tell <- 2
away$keys <- 0

# Returns what ask returns; while no server answers it is called again. For requests that may be carried out twice.
with_patience <- function(ask) {
  began <- proc.time()[["elapsed"]]
  pause <- 0.05
  told <- FALSE
  revived <- -Inf
  repeat {
    answer <- tryCatch(ask(), muster_error_server_down = function(e) e)
    if (!inherits(answer, "muster_error_server_down")) {
      return(answer)
    }
    now <- proc.time()[["elapsed"]]
    if (now - began >= away$patience) stop(answer)
    if (!told && now - began >= away$tell) {
      told <- TRUE
      cat("muster: the server does not answer; waiting for it\n", file = errors_to())
    }
    if (now - began >= 1 && now - revived >= 10) {
      revived <- now
      start_again()
    }
    Sys.sleep(pause)
    pause <- min(2 * pause, 1)
  }
}

# Starts the server again that a process of ours had started, for nobody else would.
start_again <- function() {
  if (identical(self$pid, Sys.getpid()) && !nzchar(Sys.getenv("MUSTER_HOST"))) {
    tryCatch(running_server(self$program), muster_error = function(e) NULL)
  }
}

# A name for a launch: sent twice, it is one. Not of R's random numbers, which are the script's.
launch_key <- function() {
  away$keys <- away$keys + 1
  sprintf("r-%d-%.0f-%d-%s", Sys.getpid(), as.numeric(Sys.time()) * 1e6, away$keys, sub("^file", "", basename(tempfile())))
}
