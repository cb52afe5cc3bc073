# The line that a long await shows on a terminal: one line on stderr, rewritten in place, cleared at the end.

# Seconds before the line appears.
progress_after <- 1

# In an engine stderr is a pipe; MUSTER_TERMINAL says that a terminal shows what goes into it.
shown_on_terminal <- function() isatty(stderr()) || identical(Sys.getenv("MUSTER_TERMINAL"), "1")

progress_line <- function(terminal = shown_on_terminal(), out = stderr()) {
  begun <- proc.time()[["elapsed"]]
  last <- list()
  width <- 0L
  drawn <- -1
  list(
    # Takes what the server sent; a line that is not whole yet is left out.
    update = function(bytes) {
      if (!terminal) {
        return(invisible())
      }
      for (text in strsplit(text_of(bytes), "\n", fixed = TRUE)[[1L]]) {
        item <- parse_json(text)
        if (is.list(item$progress)) last <<- item$progress
      }
    },
    # Called at least once a second while we wait.
    draw = function() {
      if (!terminal) {
        return(invisible())
      }
      seconds <- floor(proc.time()[["elapsed"]] - begun)
      if (seconds < progress_after || seconds == drawn) {
        return(invisible())
      }
      drawn <<- seconds
      text <- substr(progress_text(last, seconds), 1L, getOption("width", 80L) - 1L)
      cat("\r", text, strrep(" ", max(0L, width - nchar(text))), sep = "", file = out)
      width <<- nchar(text)
    },
    clear = function() {
      if (width > 0L) {
        cat("\r", strrep(" ", width), "\r", sep = "", file = out)
        Sys.sleep(0.02) # in an engine, stdout is another pipe: what is printed next must not overtake this
      }
    }
  )
}

progress_text <- function(progress, seconds) {
  counts <- if (isTRUE(progress$of > 0)) sprintf(": %d of %d done", as.integer(progress$done), as.integer(progress$of)) else ""
  why <- if (isTRUE(nzchar(progress$waiting))) sprintf(" (%s)", gsub("[[:space:]]+", " ", progress$waiting)) else ""
  sprintf("waiting for workers%s, %d s%s", counts, as.integer(seconds), why)
}
