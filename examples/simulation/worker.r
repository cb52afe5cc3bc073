# Ask the session for a stream of random numbers, simulate, and send what was seen.

source("day.r")

con <- socketConnection(host = Sys.getenv("CDSW_MASTER_IP"), port = as.integer(Sys.getenv("PORT")), blocking = TRUE, open = "r+b", timeout = 60)
stream <- as.integer(readLines(con, 1))
invisible(serialize(list(worker = Sys.getenv("CDSW_ENGINE_ID"), stream = stream, waits = days(stream)), con))
close(con)
