# A process that belongs to no session becomes one: a program and a server of these tests play muster's parts.
base <- Sys.getenv("MUSTER_URL")
program <- Sys.getenv("MUSTER_BIN")
Sys.unsetenv(c("MUSTER_URL", "CDSW_API_KEY"))
requests <- function() {
  text <- rawToChar(curl::curl_fetch_memory(paste0(base, "/requests"))$content)
  jsonlite::fromJSON(text, simplifyVector = FALSE)$requests
}
# What was written to R's stderr.
errors_of <- function(expression) {
  name <- tempfile()
  con <- file(name, "w")
  sink(con, type = "message")
  on.exit({
    sink(type = "message")
    close(con)
    unlink(name)
  })
  force(expression)
  flush(con)
  readLines(name)
}
fails <- function(expression, words) {
  e <- tryCatch(expression, muster_error_no_session = identity)
  if (!inherits(e, "error") || !grepl(words, conditionMessage(e), fixed = TRUE)) stop(words, " is not in: ", paste(format(e), collapse = " "))
}

# Switched off, attaching says nothing and a call says why.
stopifnot(length(errors_of(library(cdsw))) == 0)
fails(list.workers(), "MUSTER_ATTACH=off")
detach("package:cdsw")
Sys.unsetenv("MUSTER_ATTACH")

# Nobody helps: attaching says so and goes on, the first call stops.
Sys.setenv(MUSTER_BIN = "/nowhere/muster")
said <- errors_of(library(cdsw))
stopifnot(length(said) == 1, grepl("MUSTER_BIN is \"/nowhere/muster\", which is no program that can be run", said, fixed = TRUE))
fails(launch.workers(1, 1, 1), "/nowhere/muster")
path <- Sys.getenv("PATH")
Sys.unsetenv("MUSTER_BIN")
Sys.setenv(PATH = "/nowhere")
fails(get.auth(), "install muster and run: muster clients install --r")
Sys.setenv(PATH = path, MUSTER_BIN = "false")
fails(list.workers(), "the Muster server could not be started")
Sys.setenv(MUSTER_BIN = program, MUSTER_HOST = "example.org:7070")
fails(list.workers(), "the server at example.org:7070 (MUSTER_HOST)")
Sys.unsetenv("MUSTER_HOST")
stopifnot(length(requests()) == 0)

# It becomes one, where R itself has to print.
options(jupyter.in_kernel = TRUE)
detach("package:cdsw")
said <- capture.output(library(cdsw))
stopifnot(identical(said, "muster: no isolation here"), Sys.getenv("CDSW_IP_ADDRESS") == "100.100.0.2", get.auth()$user == "key")
made <- requests()
stopifnot(length(made) == 1, made[[1]]$headers$Authorization == "Bearer token")
body <- made[[1]]$body
stopifnot(body$kind == "attached", body$kernel == "r", body$owner_pid == Sys.getpid(), body$name == "test-session.R")
stopifnot(normalizePath(body$project) == normalizePath(getwd()), basename(body$interpreter) == "Rscript", file.exists(body$interpreter))
stopifnot(is.list(body$base_env), nzchar(body$base_env$PATH), !c("R_SESSION_TMPDIR", "MUSTER_HOST") %in% names(body$base_env))

# What workers print is shown at our calls.
stopifnot(length(capture.output(invisible(list.workers()))) == 0) # nothing was launched
out <- capture.output(w <- launch.workers(2, 1, 1))
stopifnot(identical(out, c("[crew] one", "[w0000000] f\u00fcnf", "[crew] two")))
options(jupyter.in_kernel = FALSE) # as in RStudio, which shows stderr
err <- errors_of(out <- capture.output(a <- await.workers(w)))
stopifnot(identical(out, "[crew] half"), identical(err, c("muster: a notice", "muster: worker crew ended with exit code 3")))
stopifnot(length(capture.output(invisible(list.workers()))) == 0) # once

# A console that cannot be read takes nobody's answer away.
Sys.setenv(CDSW_API_KEY = "mute")
stopifnot(length(list.workers()) == 2, length(await.workers()$workers) == 2, length(worker.logs("w000000000000000")) == 3)
Sys.setenv(CDSW_API_KEY = "key")

# A forked child belongs to the session, and neither shows nor ends it.
seen <- parallel::mccollect(parallel::mcparallel(length(list.workers())))[[1]]
stopifnot(seen == 2)
invisible(requests())
cdsw:::end_session()
methods <- vapply(requests(), function(r) r$method, "")
stopifnot(identical(methods, c("POST", "DELETE"))) # last words, and the end

# A session whose process has ended is none.
Sys.setenv(MUSTER_URL = "http://127.0.0.1:9", MUSTER_ATTACHED = "999999999")
invisible(errors_of(stopifnot(length(list.workers()) == 2)))
stopifnot(Sys.getenv("MUSTER_URL") == base)
invisible(curl::curl_fetch_memory(paste0(base, "/forget")))
