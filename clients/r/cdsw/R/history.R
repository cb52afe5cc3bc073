# The history of the commands typed at an interactive session (muster session r).
#
# R saves it together with the workspace, which such a session does not save. Here it is written after each command, to the
# file from which R reads it at its start, so that a session that is killed loses none.

keep_history <- function() {
  if (Sys.getenv("MUSTER_R_HISTORY") != "1" || !interactive()) {
    return()
  }
  Sys.unsetenv("MUSTER_R_HISTORY") # an R that is started from this one is not the session
  file <- Sys.getenv("R_HISTFILE", ".Rhistory")
  addTaskCallback(function(...) {
    try(utils::savehistory(file), silent = TRUE)
    TRUE
  }, name = "muster-history")
}
