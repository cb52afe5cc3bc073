# Makes this process a session, where it belongs to none: library(cdsw) does, else the first call. A server of this user holds
# it, found or started by the program muster.
#
# R runs one thing at a time, so another process (muster logs -f) shows what the workers print in R's own terminal, also
# while R is busy. RStudio and notebooks show only what R itself prints; there it is shown at our calls, between commands, and
# while R waits if package later is there (console.R).

# This process as a session: pid, id, program, and how its console is shown.
self <- new.env(parent = emptyenv())

owner_variable <- "MUSTER_ATTACHED"
idle_time <- "10s" # for which a server that was started here outlives the last session
# A server that is just ending lets a session in no more; the next one does. Seconds before each further attempt.
attach_pauses <- c(0.2, 0.4, 0.8, 1.6)

# Of this R, and wrong in a worker's.
own_variables <- c("MUSTER_TOKEN", "MUSTER_HOST", "R_SESSION_TMPDIR", "R_HOME", "R_ARCH", "JPY_PARENT_PID", "JPY_SESSION_NAME")

# Reports whether the environment names a session. One whose process has ended is none: what it started may live on.
belongs <- function() {
  if (!nzchar(Sys.getenv("MUSTER_URL"))) {
    return(FALSE)
  }
  owner <- Sys.getenv(owner_variable)
  !grepl("^[0-9]+$", owner) || owner == Sys.getpid() || !dir.exists("/proc/self") || dir.exists(file.path("/proc", owner))
}

ready <- function() if (!belongs()) attach_process()

# What library() does. The first call stops with what goes wrong.
at_attach <- function() {
  if (belongs() || Sys.getenv("MUSTER_ATTACH") == "off") {
    return(invisible())
  }
  tryCatch(attach_process(), error = function(e) cat("muster: ", conditionMessage(e), "\n", sep = "", file = errors_to()))
  invisible()
}

attach_process <- function() {
  if (Sys.getenv("MUSTER_ATTACH") == "off") {
    muster_stop(
      "no_session", "this process runs in no Muster session, and MUSTER_ATTACH=off says that it is not to become one",
      "start the script with: muster run FILE"
    )
  }
  program <- muster_program()
  for (pause in c(attach_pauses, NA)) {
    reply <- tryCatch(create_session(running_server(program)), muster_error = function(e) e)
    if (!inherits(reply, "muster_error")) {
      break
    }
    if (is.na(pause) || !reply$kind %in% c("server_down", "unavailable")) {
      if (reply$kind == "no_session") stop(reply)
      muster_stop("no_session", paste("this process could not become a Muster session:", reply$text), reply$hint)
    }
    Sys.sleep(pause)
  }
  do.call(Sys.setenv, c(reply$env, structure(list(as.character(Sys.getpid())), names = owner_variable)))
  self$pid <- Sys.getpid()
  self$id <- reply$id
  self$program <- program
  self$launched <- FALSE # workers: before that there is nothing to show, and nothing to end
  reg.finalizer(self, function(e) end_session(), onexit = TRUE)
}

muster_program <- function() {
  named <- Sys.getenv("MUSTER_BIN")
  if (nzchar(named)) {
    if (!nzchar(Sys.which(named))) {
      muster_stop("no_session", sprintf("MUSTER_BIN is %s, which is no program that can be run", shown(named)), "correct or unset it")
    }
    return(Sys.which(named)[[1L]])
  }
  recorded <- system.file("binary", package = "cdsw") # muster clients install leaves its own path there
  installed <- if (nzchar(recorded)) readLines(recorded, n = 1L, warn = FALSE) else ""
  for (name in c(installed, "muster")) {
    found <- if (nzchar(name)) Sys.which(name)[[1L]] else ""
    if (nzchar(found)) {
      return(found)
    }
  }
  muster_stop(
    "no_session", paste(
      "this process is in no Muster session, and cannot become one: there is no program muster, neither on the PATH nor",
      if (nzchar(installed)) sprintf("at %s, where it was", installed) else "named by MUSTER_BIN"
    ), "install muster and run: muster clients install --r; or set MUSTER_BIN to its path"
  )
}

# Returns the socket and the token of a server that answers; one is started if there is none.
running_server <- function(program) {
  need_packages()
  args <- c("up", "--until-idle", idle_time, "--background", "--json")
  named <- Sys.getenv("MUSTER_HOST")
  if (startsWith(named, "/") || startsWith(named, "unix://")) {
    args <- c(args, "--listen", shQuote(named))
  } else if (nzchar(named)) {
    muster_stop("no_session", sprintf(
      "this process cannot become a session of the server at %s (MUSTER_HOST): it is reached by TCP, and must be on %s",
      named, "this machine and be asked through its unix socket"
    ), "unset MUSTER_HOST, or start the script with: muster run FILE")
  }
  errors <- tempfile("muster-")
  on.exit(unlink(errors))
  out <- suppressWarnings(system2(program, args, stdout = TRUE, stderr = errors, stdin = "/dev/null"))
  said <- paste(readLines(errors, warn = FALSE), collapse = "\n")
  if (!is.null(attr(out, "status"))) {
    parts <- strsplit(sub("^muster: ", "", said), "\n  try: ", fixed = TRUE)[[1L]]
    what <- if (length(parts)) parts[1L] else sprintf("%s ends with exit code %d", program, attr(out, "status"))
    muster_stop("no_session", paste0("the Muster server could not be started: ", what), if (length(parts) > 1L) parts[2L] else "")
  }
  if (nzchar(said)) cat(said, "\n", sep = "", file = errors_to()) # such as what this machine cannot isolate
  place <- jsonlite::fromJSON(paste(out, collapse = "\n"))
  token <- Sys.getenv("MUSTER_TOKEN")
  if (grepl("[^!-~]", token, useBytes = TRUE)) {
    muster_stop("no_session", "MUSTER_TOKEN has a character that no token has, such as a newline", "set it to the token alone, or unset it")
  }
  if (!nzchar(token) && !is.null(place$token_file)) { # without one the server knows its users by their connection
    token <- tryCatch(suppressWarnings(readLines(place$token_file, n = 1L, warn = FALSE)), error = function(e) {
      muster_stop("server_down", paste("the server's token cannot be read:", conditionMessage(e))) # it has just ended
    })
  }
  list(socket = sub("^unix://", "", place$address), token = token)
}

create_session <- function(server) {
  env <- Sys.getenv()
  env <- env[!names(env) %in% own_variables & !startsWith(names(env), "RSTUDIO") & validUTF8(as.vector(env))]
  body <- list(
    kind = "attached", name = session_name(), kernel = "r", project = getwd(), owner_pid = Sys.getpid(),
    base_env = as.list(env), interpreter = file.path(R.home("bin"), "Rscript")
  )
  handle <- new_request("POST", body, "application/json", key = server$token)
  curl::handle_setopt(handle, unix_socket_path = server$socket, timeout = 60)
  response <- tryCatch(
    curl::curl_fetch_memory("http://muster/muster/v1/sessions", handle),
    error = function(e) muster_stop("server_down", paste("its server cannot be reached:", conditionMessage(e)))
  )
  decode(response, response$content)
}

# What people know this process by.
session_name <- function() {
  file <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
  if (length(file) && nzchar(file[1L]) && file[1L] != "-") {
    return(enc2utf8(basename(file[1L])))
  }
  notebook <- Sys.getenv("JPY_SESSION_NAME")
  if (nzchar(notebook)) enc2utf8(basename(notebook)) else if (in_rstudio()) "RStudio" else "R"
}

# Called before workers are launched: from now on there is something to show.
before_launch <- function() {
  ready()
  if (is_own_session() && !self$launched) {
    self$launched <- TRUE
    begin_console()
  }
}

is_own_session <- function() identical(self$pid, Sys.getpid()) # not so in a forked child

# Ends the session with R, and lets the last lines be shown.
end_session <- function() {
  if (!is_own_session() || !self$launched) {
    return(invisible()) # the end of the process is enough
  }
  show_console()
  self$pid <- NULL
  try(
    {
      if (!interactive()) last_words()
      handle <- new_request("DELETE", NULL, "application/json")
      curl::handle_setopt(handle, timeout = 10)
      curl::curl_fetch_memory(paste0(Sys.getenv("MUSTER_URL"), "/muster/v1/sessions/self"), handle)
      await_follower()
    },
    silent = TRUE
  )
}

# A script that answers a worker and exits must not take with it what the worker prints of the answer: so long may workers go
# on after the end of a script (the same as in muster run).
last_words <- function() {
  handle <- new_request("POST", list(all = TRUE, wait_for_completion = TRUE, timeout_seconds = 0.5), "application/json")
  curl::handle_setopt(handle, timeout = 10)
  curl::curl_fetch_memory(paste0(Sys.getenv("MUSTER_URL"), "/muster/v1/sessions/self/await"), handle)
}
