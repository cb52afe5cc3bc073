# What the arguments may be. Numbers are checked here, before anything is sent; all else is for the server to refuse.

max_workers <- 10000

# Returns a number (numeric, or text that is one), or stops.
as_number <- function(name, value) {
  if (is.factor(value)) value <- as.character(value)
  good <- (is.numeric(value) || is.character(value)) && length(value) == 1L
  number <- if (good) suppressWarnings(as.numeric(value)) else NA_real_
  if (is.na(number) || is.infinite(number)) {
    muster_stop("invalid", sprintf("%s must be a number, not %s", name, shown(value)))
  }
  number
}

as_count <- function(value) {
  n <- as_number("n", value)
  if (n < 0 || n > max_workers || n != round(n)) {
    muster_stop("invalid", sprintf("n must be a whole number from 0 to %d, not %s", max_workers, shown(value)))
  }
  n
}

# Returns a timeout in seconds; 0 means none.
as_timeout <- function(value) {
  if (is.null(value) || identical(value, Inf)) {
    return(0)
  }
  seconds <- as_number("timeout_seconds", value)
  if (seconds < 0) {
    muster_stop("invalid", sprintf("timeout_seconds must not be negative: %s (0 means no timeout)", shown(value)))
  }
  if (seconds > 1e9) 0 else seconds
}

# Returns how often a worker is tried again; NULL: never.
as_retries <- function(value) {
  n <- as_number("retries", value)
  if (n < 0 || n > 1000 || n != round(n)) {
    muster_stop("invalid", sprintf("retries must be a whole number from 0 to 1000, not %s", shown(value)))
  }
  if (n == 0) NULL else n
}

# Returns how long a worker may run, in seconds; NULL: as long as it likes.
as_time_limit <- function(value) {
  if (is.null(value)) {
    return(NULL)
  }
  seconds <- as_number("timeout_seconds", value)
  if (seconds <= 0 || seconds > 10 * 365 * 86400) {
    muster_stop("invalid", sprintf(
      "timeout_seconds must be above 0 and at most ten years, not %s (NULL means no time limit)", shown(value)
    ))
  }
  seconds
}

# Returns the name of a group, NULL for none; others: workers are named besides.
as_group <- function(value, others = FALSE) {
  if (is.null(value)) {
    return(NULL)
  }
  if (others) {
    muster_stop("invalid", sprintf("workers are named by ids or by a group, and both were given: group = %s", shown(value)))
  }
  if (!is.character(value) || length(value) != 1L || is.na(value) || !nzchar(value)) {
    muster_stop("invalid", sprintf("group must be text that is not empty (NULL means none), not %s", shown(value)))
  }
  enc2utf8(value)
}

# Returns a number of lines.
as_lines <- function(value) {
  n <- as_number("tail", value)
  if (n < 1 || n > 1e5 || n != round(n)) {
    muster_stop("invalid", sprintf("tail must be a whole number of lines from 1 to 100000, not %s (NULL means all)", shown(value)))
  }
  n
}

# Returns text; several elements (lines) become one.
as_text <- function(value) {
  if (is.null(value)) "" else paste(enc2utf8(as.character(value)), collapse = "\n")
}

# Returns env as a named list of text that becomes a JSON object. Older code passes env = "", and list() means nothing too.
as_environment_variables <- function(env) {
  nothing <- structure(list(), names = character())
  if (is.environment(env)) env <- as.list(env, all.names = TRUE)
  if (length(env) == 0L || (is.character(env) && is.null(names(env)) && identical(as.vector(env), ""))) {
    return(nothing)
  }
  if (!(is.list(env) || is.atomic(env)) || is.null(names(env))) {
    muster_stop("invalid", sprintf("env must be a list or vector with names, not %s", shown(env)))
  }
  bad <- is.na(names(env)) | names(env) == "" | grepl("=", names(env), fixed = TRUE)
  if (any(bad)) {
    muster_stop("invalid", sprintf(
      "env: %s cannot be the name of a variable: it is empty or holds '='", shown(names(env)[bad][1L])
    ))
  }
  env <- env[!duplicated(names(env), fromLast = TRUE)]
  lapply(as.list(env), function(v) if (length(v) == 0L || (length(v) == 1L && is.na(v))) "" else as_text(v))
}

# An explicit kernel wins; if none is given the script's ending decides, then it is r. It is "" for an ending that is not
# known here: the server knows what the project's settings say of it.
as_kernel <- function(kernel, given, script) {
  if (given && nzchar(as_text(kernel))) {
    return(as_text(kernel))
  }
  if (!grepl("\\.[^./]*$", script)) {
    return("r")
  }
  switch(tolower(sub("^.*(\\.[^./]*)$", "\\1", script)), .r = "r", .py = "python3", .scala = "scala", "")
}

# Takes ids as callers write them: ids, a description, lists of these. Returns list(ids =, refused =), where refused holds
# the descriptions without id.
as_ids <- function(x) {
  found <- character()
  refused <- list()
  collect <- function(item) {
    if (is.list(item) && !is.null(names(item)) && is_description(item)) {
      if (length(item$id) == 1L && nzchar(item$id)) {
        found <<- c(found, as.character(item$id))
      } else {
        refused[[length(refused) + 1L]] <<- item
      }
    } else if (is.list(item)) {
      for (i in item) collect(i)
    } else if (is.null(item) || (length(item) == 1L && is.na(item))) {
      refused[[length(refused) + 1L]] <<- list(message = "NULL is no worker's id")
    } else if (is.character(item)) {
      found <<- c(found, unname(item))
    } else if (is.numeric(item)) {
      found <<- c(found, format(item, scientific = FALSE, trim = TRUE))
    } else {
      muster_stop("invalid", sprintf("a worker is named by its id or description, not %s", shown(item)))
    }
  }
  collect(x)
  list(ids = found, refused = refused)
}

# Stops unless an id can be a worker's: all of it, or the eight letters that labels show.
check_id <- function(id) {
  if (!nzchar(id)) muster_stop("invalid", "a worker's id must not be empty")
  session <- Sys.getenv("CDSW_MASTER_ID", Sys.getenv("CDSW_ENGINE_ID"))
  if (!(nchar(id, "bytes") %in% c(16L, 8L)) || startsWith(session, id)) {
    muster_stop("not_found", sprintf("no worker of this session has the id %s", shown(id)), "list.workers() tells which there are")
  }
}

is_description <- function(x) any(c("id", "engineId", "message") %in% names(x))

# A value as an error message shows it.
shown <- function(value) {
  text <- paste(deparse(value, nlines = 1L, width.cutoff = 60L), collapse = "")
  if (nchar(text) > 60L) paste0(substr(text, 1L, 57L), "...") else text
}
