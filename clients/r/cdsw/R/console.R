# What the workers of a session print, shown by the process that became one (attach.R).

in_rstudio <- function() .Platform$GUI == "RStudio"

shown_at_calls <- function() {
  in_rstudio() || isTRUE(getOption("jupyter.in_kernel")) || "IRkernel" %in% loadedNamespaces()
}

begin_console <- function() {
  self$at_calls <- shown_at_calls()
  if (!self$at_calls) {
    return(follow_in_terminal())
  }
  self$position <- ""
  self$count <- 0L # of workers launched
  self$engines <- list()
  addTaskCallback(function(...) {
    show_console()
    is_own_session()
  }, name = "muster-console")
}

# Starts a process that writes to R's own standard output and error. The program sees to it that Ctrl-C is for R alone, and
# that the process holds none of R's sockets.
follow_in_terminal <- function() {
  self$lock <- tempfile("muster-follower-")
  system2(self$program, c("follow", "start", shQuote(self$lock), self$id), stdin = "/dev/null")
}

# Returns when the follower has shown all and ended.
await_follower <- function() {
  if (!is.null(self$lock)) system2(self$program, c("follow", "wait", shQuote(self$lock)), stdin = "/dev/null")
}

# Shows what has been printed since the last time, where only R itself can. Where that fails it is shown the next time: no call of
# the script's is to fail for it.
show_console <- function() {
  if (is_own_session() && self$launched && self$at_calls) try(show_new(), silent = TRUE)
  invisible()
}

show_new <- function() {
  handle <- new_request("GET", NULL, line_type)
  curl::handle_setopt(handle, timeout = 10)
  url <- paste0(Sys.getenv("MUSTER_URL"), "/muster/v1/sessions/self/console?from=", self$position)
  response <- curl::curl_fetch_memory(url, handle)
  if (response$status_code != 200L) {
    return(invisible())
  }
  for (text in strsplit(text_of(response$content), "\n", fixed = TRUE)[[1L]]) {
    record <- parse_json(text)
    if (is.null(record)) next
    self$position <- record$position
    show_record(record)
  }
  show_later()
}

# Looks again while R waits for the next command, as long as workers live.
show_later <- function() {
  ended <- Filter(function(e) isTRUE(e$ended), self$engines)
  if (length(ended) >= self$count || isTRUE(self$waits) || !in_rstudio() || !requireNamespace("later", quietly = TRUE)) {
    return(invisible())
  }
  self$waits <- TRUE
  later::later(function() {
    self$waits <- FALSE
    show_console()
  }, 1)
}

count_launched <- function(workers) {
  if (is_own_session() && self$at_calls) {
    self$count <- self$count + sum(vapply(workers, function(w) !is.null(w$id), NA))
    show_later()
  }
  workers
}

show_record <- function(record) {
  id <- record$engine
  payload <- if (is.null(record$base64)) charToRaw(enc2utf8(paste0("", record$text))) else jsonlite::base64_dec(record$base64)
  if (record$stream == "event") {
    return(show_event(id, parse_json(text_of(payload))))
  }
  if (!record$stream %in% c("stdout", "stderr")) {
    return(invisible())
  }
  engine <- known_engine(id)
  bytes <- c(engine[[record$stream]], payload) # a record may end amid a character, a line does not
  whole <- max(0L, which(bytes == as.raw(10L)))
  self$engines[[id]][[record$stream]] <- bytes[seq_along(bytes) > whole]
  if (whole > 0L) show_lines(engine$name, record$stream, bytes[seq_len(whole - 1L)])
}

show_event <- function(id, event) {
  if (is.null(event)) {
    return(invisible())
  }
  if (is.character(event$engine) && nzchar(event$engine)) id <- event$engine
  note <- is.character(event$message) && nzchar(event$message)
  if (id != self$id) {
    engine <- known_engine(id)
    if (identical(event$type, "engine")) rename_engine(id, event$name)
    if (identical(event$type, "exit")) {
      for (stream in c("stdout", "stderr")) {
        if (length(engine[[stream]])) show_lines(engine$name, stream, engine[[stream]])
        self$engines[[id]][[stream]] <- raw()
      }
      self$engines[[id]]$ended <- TRUE
      if (note && isTRUE(event$status %in% c("failed", "timedout"))) show_note(paste("worker", engine$name, event$message))
    }
  }
  if (note && isTRUE(event$type %in% c("notice", "refused", "waiting", "retry", "damaged"))) show_note(event$message)
}

known_engine <- function(id) {
  if (is.null(self$engines[[id]])) self$engines[[id]] <- list(name = substr(id, 1L, 8L), stdout = raw(), stderr = raw())
  self$engines[[id]]
}

rename_engine <- function(id, name) {
  if (!is.character(name) || !nzchar(name) || name == "Untitled Worker") {
    return(invisible())
  }
  name <- gsub("[[:cntrl:]]", "?", name)
  others <- vapply(self$engines[names(self$engines) != id], function(e) e$name, "")
  self$engines[[id]]$name <- if (name %in% others) paste(name, substr(id, 1L, 4L)) else name
}

show_lines <- function(name, stream, bytes) {
  lines <- paste0("[", name, "] ", strsplit(paste0(text_of(bytes), "\n"), "\n", fixed = TRUE)[[1L]], "\n")
  cat(lines, sep = "", file = if (stream == "stdout") stdout() else errors_to())
}

show_note <- function(message) {
  cat(paste0("muster: ", strsplit(message, "\n", fixed = TRUE)[[1L]], "\n"), sep = "", file = errors_to())
}

# Where people read what is wrong: IRkernel shows nothing of stderr. (It shows messages, but those can be conditions to the
# user's code.)
errors_to <- function() if (isTRUE(getOption("jupyter.in_kernel"))) stdout() else stderr()
