library(cdsw)

print(Sys.getenv("CDSW_MASTER_IP"))
con <- socketConnection(host = Sys.getenv("CDSW_MASTER_IP"), port = 6000, blocking = TRUE, server = FALSE, open = "r+")
writeLines("Hello from Worker", con)
data <- readLines(con, 1)
print(paste("Worker received:  ", data))
close(con)
