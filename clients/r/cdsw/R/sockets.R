# Server sockets that lose no connection between two accepts.
#
# Base R's socketConnection(server = TRUE) listens, accepts one connection and closes the listener. A second worker that is
# already waiting is reset, one that comes between two rounds is refused, and the master then waits in vain. The version
# here keeps one listener for each port, for the life of the process, and accepts from it. It also lets a young worker's
# connect to its master be tried again while it is refused, for machines whose network cannot make it wait.
#
# All else is base R's: the formals and the body are taken from the running R when the package is loaded, and whatever is
# not claimed here (other ports, open = "", arguments that are no good) runs that body, in a call of the same name, so that
# results, warnings, errors and their texts stay what they are. What remains: once a port was served it stays taken by this
# process. A client that connects while nobody accepts waits for the next socketConnection(), of this process or of one that it
# forks, instead of being refused; and another program in the engine cannot bind that port.

# Replaced in .onLoad; here so that the package can export them.
socketConnection <- function(...) NULL
image <- function(x, ...) NULL

# The listeners by port.
state <- new.env(parent = emptyenv())
state$listeners <- list()

# Seconds: how long a refused connect to the master is tried again, in which age of the process, and how often.
retry_seconds <- 15
retry_age <- 30
retry_pause <- 0.02

.onLoad <- function(libname, pkgname) {
  ns <- topenv()
  f <- base::socketConnection
  body(f) <- substitute(
    {
      if (!missing(port) && says_true(server)) {
        .socket <- kept_listener(host, port, open)
        if (!is.null(.socket)) {
          return(as_in_base(ACCEPT, sys.call()))
        }
      } else if (to_young_master(host, server)) {
        .con <- patiently(BASE)
        if (!is.null(.con)) {
          return(.con)
        }
      }
      BASE
    },
    list(BASE = body(base::socketConnection), ACCEPT = accept_call())
  )
  environment(f) <- ns
  assign("socketConnection", f, envir = ns)

  # Imported, graphics would be loaded with this package: in engines before a .Rprofile, whose hooks for that come to nothing.
  rm("image", envir = ns)
  makeActiveBinding("image", function() graphics::image, ns)

  state$libraries <- .libPaths()
}

# The body of base R's socketAccept with our variable as its socket.
accept_call <- function() {
  do.call(substitute, list(body(base::socketAccept), list(socket = quote(.socket))))
}

# library() then says nothing about socketConnection, which is masked on purpose.
.onAttach <- function(libname, pkgname) {
  assign(".conflicts.OK", TRUE, envir = as.environment(paste0("package:", pkgname)))
  keep_history()
  at_attach()
}

# Evaluates an accept, and gives its warnings and errors the words and the call that base R's socketConnection has for them.
as_in_base <- function(accept, call) {
  timed_out <- gettext("problem in accepting connections on this socket", domain = "R")
  withCallingHandlers(accept,
    warning = function(w) {
      if (identical(conditionMessage(w), timed_out)) {
        w$message <- gettext("problem in listening on this socket", domain = "R")
      }
      w$call <- call
      warning(w)
      invokeRestart("muffleWarning")
    },
    error = function(e) {
      e$call <- call
      stop(e)
    }
  )
}

is_string <- function(x) is.character(x) && length(x) == 1L

says_true <- function(x) length(x) == 1L && is.atomic(x) && isTRUE(as.logical(x))

# Returns the listener for a port, NULL if base R is to do it (or to say what is wrong).
kept_listener <- function(host, port, open) {
  number <- if (is.numeric(port) || is.character(port)) suppressWarnings(as.integer(port[1L])) else NA
  if (is.na(number) || number < 1L || number > 65535L || !is_string(open) || !nzchar(open) || !is_string(host)) {
    return(NULL)
  }
  key <- as.character(number) # a forked child has its parent's: the port is taken, and whichever accepts is served
  kept <- state$listeners[[key]]
  if (!is_listener(kept)) {
    kept <- tryCatch(suppressWarnings(base::serverSocket(number)), error = function(e) NULL)
    state$listeners[[key]] <- kept
  }
  kept
}

# Reports whether a kept listener is still one: closeAllConnections() closes it too.
is_listener <- function(x) {
  !is.null(x) && tryCatch(identical(summary(x)$class, "servsockconn"), error = function(e) FALSE)
}

to_young_master <- function(host, server) {
  masters <- Sys.getenv(c("CDSW_MASTER_IP", "CML_MASTER_IP"))
  identical(server, FALSE) && is_string(host) && nzchar(host) && host %in% masters &&
    proc.time()[["elapsed"]] < retry_age
}

# Evaluates a connect until it succeeds or the time is up, then returns NULL: the caller's own try speaks for itself.
patiently <- function(connect) {
  expression <- substitute(connect)
  frame <- parent.frame()
  begun <- proc.time()[["elapsed"]]
  refused <- gettext("cannot open the connection", domain = "R")
  repeat {
    tried <- proc.time()[["elapsed"]]
    con <- tryCatch(suppressWarnings(eval(expression, frame)), error = function(e) conditionMessage(e))
    now <- proc.time()[["elapsed"]]
    if (!is.character(con)) {
      return(con)
    }
    # A refusal comes at once; what took its time was a timeout, and what says something else is no refusal.
    if (!identical(con, refused) || now - tried > 1 || now - begun > retry_seconds || now > retry_age) {
      return(NULL)
    }
    Sys.sleep(retry_pause)
  }
}
