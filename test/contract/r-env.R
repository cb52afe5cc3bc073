library(cdsw)
look <- "cat('A is', Sys.getenv('A', 'unset'), '\\n')"
ws <- c(launch.workers(1, 0.2, 0.2, code = look), launch.workers(1, 0.2, 0.2, env = "", code = look),
        launch.workers(1, 0.2, 0.2, env = NULL, code = look))
more <- c(launch.workers(1, 0.2, 0.2, env = list(A = 1), code = look), launch.workers(1, 0.2, 0.2, env = c(A = "1"), code = look))
stopifnot(length(await.workers(c(ws, more))$failures) == 0)
# prints: A is unset
# prints: A is unset
# prints: A is unset
# prints: A is 1
# prints: A is 1
