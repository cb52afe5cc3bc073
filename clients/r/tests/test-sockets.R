library(cdsw)

free_port <- function() {
  repeat {
    port <- sample(20000:60000, 1)
    s <- tryCatch(serverSocket(port), error = function(e) NULL)
    if (!is.null(s)) {
      close(s)
      return(port)
    }
  }
}
python <- Sys.getenv("PYTHON")
# Clients that connect at once (again while refused, as this test has no other way to know that the server listens), say
# hello, and print what they read.
clients <- function(n, port, out) {
  code <- paste(
    "import socket, sys, time, threading",
    "def one(i):",
    "    while True:",
    "        try: s = socket.create_connection(('127.0.0.1', %d)); break",
    "        except ConnectionRefusedError: time.sleep(0.002)",
    "    s.sendall(b'hello %%d\\n' %% i)",
    "    try: got = s.makefile().readline()",
    "    except OSError: return",
    "    open('%s', 'a').write(got)",
    "ts = [threading.Thread(target=one, args=(i,)) for i in range(%d)]",
    "[t.start() for t in ts]; [t.join() for t in ts]",
    sep = "\n"
  )
  system2(python, c("-c", shQuote(sprintf(code, port, out, n))), wait = FALSE)
}
wait_for <- function(what) {
  end <- proc.time()[["elapsed"]] + 30
  while (!what()) {
    if (proc.time()[["elapsed"]] > end) stop("waited 30 s in vain")
    Sys.sleep(0.01)
  }
}
outcome <- function(call) {
  warned <- NULL
  e <- tryCatch(withCallingHandlers(eval(call, globalenv()), warning = function(w) {
    warned <<- c(warned, conditionMessage(w), deparse(conditionCall(w)))
    invokeRestart("muffleWarning")
  }), error = function(e) c(conditionMessage(e), deparse(conditionCall(e)), class(e)))
  list(warned, e)
}

# Ten clients at once, ten rounds: every one is served.
port <- free_port()
out <- tempfile()
clients(10, port, out)
heard <- character()
for (i in 1:10) {
  con <- socketConnection(host = "0.0.0.0", port = port, blocking = TRUE, server = TRUE, open = "r+", timeout = 30)
  stopifnot(identical(class(con), c("sockconn", "connection")), startsWith(summary(con)$description, "<-"))
  stopifnot(summary(con)$mode == "r+", summary(con)$opened == "opened")
  heard <- c(heard, readLines(con, 1))
  writeLines(paste("served", i), con)
  close(con)
}
stopifnot(identical(sort(heard), sort(paste("hello", 0:9))))
wait_for(function() file.exists(out) && length(readLines(out)) == 10)
stopifnot(identical(sort(readLines(out)), sort(paste("served", 1:10))))

# The listener outlives the connection, and closeAllConnections() does no lasting harm.
closeAllConnections()
clients(1, port, out)
con <- socketConnection(port = port, server = TRUE, blocking = TRUE, open = "r+")
stopifnot(readLines(con, 1) == "hello 0")
writeLines("bye", con)
close(con)

# A forked child serves a port that its parent has served, as with base R.
job <- parallel::mcparallel({
  con <- socketConnection(port = port, server = TRUE, blocking = TRUE, open = "r+", timeout = 30)
  heard <- readLines(con, 1)
  close(con)
  heard
})
clients(1, port, out)
stopifnot(identical(parallel::mccollect(job)[[1]], "hello 0"))

# Modes, defaults and other arguments reach the connection: as base R's own, which p2 is served by.
p1 <- free_port()
p2 <- free_port()
for (extra in list(
  list(), list(open = "r+b", blocking = TRUE), list(open = "rb"), list(encoding = "latin1"), list(options = "no-delay", blocking = TRUE),
  list(timeout = 3L), list(server = 1), list(port = "text")
)) {
  made <- lapply(list(list(cdsw::socketConnection, p1), list(base::socketConnection, p2)), function(m) {
    clients(1, m[[2]], tempfile())
    a <- utils::modifyList(list(port = m[[2]], server = TRUE), extra)
    if (identical(a$port, "text")) a$port <- as.character(m[[2]])
    con <- do.call(m[[1]], a)
    s <- summary(con)
    s$description <- sub("[0-9]+$", "PORT", s$description)
    close(con)
    s
  })
  stopifnot(identical(made[[1]], made[[2]]))
}

# Errors and warnings: message for message as base R, but for nothing. The calls are written alike.
base_socketConnection <- base::socketConnection
ours <- cdsw::socketConnection
p3 <- free_port()
p4 <- free_port()
held <- system2(python, c("-c", shQuote(sprintf(
  "import socket; s=socket.socket(); s.bind(('',%d)); s.listen(); open('%s','w').close(); s.settimeout(60); s.accept()", p4, flag <- tempfile()
))), wait = FALSE)
wait_for(function() file.exists(flag))
p6 <- free_port()
calls <- list(
  quote(f(port = p3, server = TRUE, timeout = 1)), # nobody comes
  quote(f(port = p3, server = TRUE, timeout = 1, blocking = TRUE)),
  quote(f(port = p4, server = TRUE, timeout = 1)), # another process has it
  quote(f(port = p4 + 1, timeout = 1)), # refused
  quote(f("127.0.0.1", p4 + 1, FALSE, TRUE)),
  quote(f(server = TRUE)), quote(f()), quote(f(port = "x", server = TRUE)), quote(f(port = -1, server = TRUE)),
  quote(f(port = NA, server = TRUE)), quote(f(port = p3, server = TRUE, open = 3)), quote(f(port = p4 + 1, server = NA)),
  quote(f(port = p3, server = TRUE, timeout = "1")), quote(f(port = p3, server = TRUE, blocking = NA, timeout = 1)),
  quote(f(port = p3, server = TRUE, encoding = 2, timeout = 1)), quote(f(port = p3, server = TRUE, options = 5, timeout = 1)),
  quote(f(port = p3, server = TRUE, host = 3, timeout = 1)), quote(f(port = p3, server = TRUE, nonsense = 3)),
  quote(f(port = p3, server = TRUE, open = "zz", timeout = 1)), quote(f(port = c(p3, 1), server = TRUE, timeout = 1))
)
differ <- 0
for (call in calls) {
  f <- base_socketConnection
  wanted <- outcome(call)
  f <- ours
  was <- p3
  p3 <- p6 # ours keeps its port
  got <- outcome(call)
  p3 <- was
  if (!identical(wanted, got)) {
    differ <- differ + 1
    cat("differs:", deparse(call), "\n base:\n")
    print(wanted)
    cat(" ours:\n")
    print(got)
  }
}
stopifnot(differ == 0)

# open = "" is base R's own: nothing is opened.
con <- socketConnection(port = p3, server = TRUE, open = "")
stopifnot(!isOpen(con))
close(con)

# A young client of the master tries again while it is refused; others do not.
p5 <- free_port()
code <- paste(
  "library(cdsw)",
  "cat('begin\\n')",
  "con <- socketConnection(host = '127.0.0.1', port = %d, blocking = TRUE, server = FALSE, open = 'r+')",
  "writeLines('hi', con)",
  "cat(readLines(con, 1), '\\n')",
  sep = "\n"
)
script <- tempfile(fileext = ".R")
writeLines(sprintf(code, p5), script)
log <- tempfile()
Sys.setenv(CDSW_MASTER_IP = "127.0.0.1")
system2("Rscript", script, wait = FALSE, stdout = log, stderr = log)
wait_for(function() file.exists(log) && "begin" %in% readLines(log)) # from here on it is refused, until:
con <- socketConnection(port = p5, server = TRUE, blocking = TRUE, open = "r+", timeout = 30)
stopifnot(readLines(con, 1) == "hi")
writeLines("served", con)
close(con)
wait_for(function() any(grepl("served", readLines(log))))
Sys.setenv(CDSW_MASTER_IP = "100.100.0.9")
writeLines(sprintf(code, p4 + 1), script)
out <- suppressWarnings(system2("Rscript", script, stdout = TRUE, stderr = TRUE))
stopifnot(any(grepl("cannot open the connection", out)), attr(out, "status") == 1)
close(socketConnection(port = p4)) # the process that held the port ends
