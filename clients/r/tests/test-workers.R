library(cdsw)

base <- Sys.getenv("MUSTER_URL")
away <- cdsw:::away # an environment
away$patience <- 0
requests <- function() {
  text <- rawToChar(curl::curl_fetch_memory(paste0(base, "/requests"))$content)
  jsonlite::fromJSON(text, simplifyVector = FALSE)$requests
}
last <- function() {
  all <- requests()
  all[[length(all)]]$body
}
fails <- function(kind, expression, words = "") {
  e <- tryCatch(expression, error = identity)
  if (!all(c(paste0("muster_error_", kind), "muster_error", "error") %in% class(e))) {
    stop("no error of kind ", kind, " but: ", paste(format(e), collapse = " "))
  }
  for (w in words) if (!grepl(w, conditionMessage(e), fixed = TRUE)) stop(w, " is not in: ", conditionMessage(e))
  invisible(e)
}
with_key <- function(key, expression) {
  Sys.setenv(CDSW_API_KEY = key)
  on.exit(Sys.setenv(CDSW_API_KEY = "key"))
  force(expression)
}

# Names: dotted and underscored, in both packages.
for (verb in c("launch", "list", "await", "stop")) {
  dotted <- get(paste0(verb, ".workers"))
  stopifnot(identical(dotted, get(paste0(verb, "_workers"))), identical(dotted, getExportedValue("cml", paste0(verb, ".workers"))))
}
stopifnot(identical(
  names(formals(launch.workers))[1:8], c("n", "cpu", "memory", "nvidia_gpu", "kernel", "script", "code", "env")
))
stopifnot("name" %in% names(formals(launch.workers)))

# The request.
w <- launch.workers(n = 2, cpu = 0.2, memory = 0.5, env = "", code = "cat(1)")
stopifnot(length(w) == 2, is.list(w[[1]]), nchar(w[[1]]$id) == 16, is.character(w[[1]]$ip_address))
all <- requests()
stopifnot(length(all) == 1, all[[1]]$headers$Authorization == "Bearer key", all[[1]]$headers$`Muster-Api-Version` == "1")
b <- all[[1]]$body
stopifnot(b$n == 2, b$cpu == 0.2, b$memory == 0.5, b$nvidia_gpu == 0, b$kernel == "r", b$script == "", b$code == "cat(1)")
stopifnot(is.list(b$env), length(b$env) == 0)

# env in all its forms is a JSON object.
sent_env <- function(...) {
  launch.workers(1, 1, 1, ...)
  last()$env
}
for (nothing in list("", NULL, list(), character(), c())) stopifnot(identical(unname(sent_env(env = nothing)), list()))
stopifnot(identical(unname(sent_env()), list()))
stopifnot(identical(sent_env(env = list(A = "x", B = 2, C = TRUE, D = NULL)), list(A = "x", B = "2", C = "TRUE")) ||
  identical(sent_env(env = list(A = "x", B = 2, C = TRUE, D = NULL)), list(A = "x", B = "2", C = "TRUE", D = "")))
stopifnot(identical(sent_env(env = c(A = "x", B = "y")), list(A = "x", B = "y")))
stopifnot(identical(sent_env(env = c(A = "\u00e9\n")), list(A = "\u00e9\n")))
stopifnot(identical(sent_env(env = list(A = 1, A = 2, B = NA)), list(A = "2", B = "")))
fails("invalid", launch.workers(1, 1, 1, env = "A=1"), "env must be")
fails("invalid", launch.workers(1, 1, 1, env = list(1)), "env must be")
fails("invalid", launch.workers(1, 1, 1, env = list(`A=B` = 1)), "A=B")

# The kernel.
kernel <- function(...) {
  launch.workers(1, 1, 1, ...)
  last()$kernel
}
stopifnot(
  kernel(script = "a.r") == "r", kernel(script = "a.R") == "r", kernel(script = "a.py") == "python3", kernel(script = "a") == "r",
  kernel(script = "a.scala") == "scala", kernel(script = "a.py", kernel = "r") == "r", kernel(kernel = "python2") == "python2",
  kernel(script = "x.py/a") == "r", kernel(script = "a.jl") == "", kernel(script = "a.jl", kernel = "julia") == "julia"
)

# Numbers.
invisible(launch.workers("2", "0.5", "1", "0"))
b <- last()
stopifnot(identical(b$n, 2L), b$cpu == 0.5, b$memory == 1)
invisible(launch.workers(1, -1, 0))
stopifnot(last()$cpu == -1)
for (bad in list("two", NA, NaN, Inf, NULL, TRUE, c(1, 2), list(1), -1, 10001, 1.5)) fails("invalid", launch.workers(bad, 1, 1), "n must be")
for (bad in list("lots", NA, NaN, Inf, NULL, TRUE, c(1, 2))) fails("invalid", launch.workers(1, bad, 1), "cpu must be")
stopifnot(length(requests()) == 0, identical(launch.workers(0, 1, 1), list()), length(requests()) == 0)

# Refused: no error, descriptions without id.
r <- with_key("invalid", launch.workers(2, -1, 1))
stopifnot(length(r) == 2, is.null(r[[1]]$id), r[[1]]$message == "the message; the hint", r[[1]]$k8sMessage == r[[1]]$message)

# Lists, newest first.
all <- list.workers()
stopifnot(all[[length(all)]]$id == w[[1]]$id)

# await takes ids in all forms.
a <- w[[1]]$id
b <- w[[2]]$id
for (form in list(list(a, a), list(w[[1]], a), list(w, c(a, b)), list(c(a, b), c(a, b)), list(list(a, w[[2]]), c(a, b)))) {
  got <- await.workers(form[[1]])
  sent <- last()
  stopifnot(identical(unlist(sent$ids), form[[2]]), is.list(sent$ids), sent$wait_for_completion, sent$timeout_seconds == 60)
  stopifnot(identical(names(got), c("workers", "failures")), identical(vapply(got$workers, `[[`, "", "id"), form[[2]]))
  stopifnot(got$workers[[1]]$status == "succeeded")
}
invisible(requests())
stopifnot(length(await.workers()$workers) == length(all), last()$all)
invisible(await.workers(a, FALSE, 0))
b1 <- last()
stopifnot(!b1$wait_for_completion, b1$timeout_seconds == 0)
invisible(await.workers(a, timeout_seconds = Inf))
stopifnot(last()$timeout_seconds == 0)
fails("invalid", await.workers(a, timeout_seconds = -1), "negative")
got <- await.workers(c(list(w[[1]]), r))
stopifnot(length(got$workers) == 1, length(got$failures) == 2)
invisible(requests())
stopifnot(identical(await.workers(list()), list(workers = list(), failures = list())), length(requests()) == 0)

# stop.
got <- stop.workers(w[[1]], b)
stopifnot(identical(unlist(last()$ids), c(a, b)), got[[1]]$status_code == 204L, format(got[[1]]) == "<Response [204]>")
stopifnot(identical(capture.output(print(got[[1]])), "<Response [204]>"))
stopifnot(stop.workers("nosuchworker0000")[[1]]$status_code == 404L, stop.workers(list(w))[[2]]$ok)
stopifnot(length(stop.workers()) == length(all), last()$all)
stopifnot(is.null(stop.workers(list())), stop.workers(NULL)[[1]]$status_code == 404L, length(requests()) == 0)

# Beyond the original's arguments: not sent if they are not given.
invisible(launch.workers(1, 1, 1))
stopifnot(!any(c("retries", "timeout_seconds", "group") %in% names(last())))
invisible(launch.workers(1, 1, 1, retries = "3", timeout_seconds = 0.5, group = "fits"))
b1 <- last()
stopifnot(b1$retries == 3, b1$timeout_seconds == 0.5, b1$group == "fits")
for (bad in list(-1, 1001, 1.5, NULL, NA, TRUE)) fails("invalid", launch.workers(1, 1, 1, retries = bad), "retries must be")
for (bad in list(0, -1, 4e8, Inf, NA, "soon")) fails("invalid", launch.workers(1, 1, 1, timeout_seconds = bad), "timeout_seconds must be")
for (bad in list("", 7, NA_character_, c("a", "b"))) fails("invalid", list.workers(group = bad), "group must be")
invisible(list.workers(group = "a b&c"))
stopifnot(requests()[[1]]$path == "/muster/v1/sessions/self/workers?group=a%20b%26c")
with_key("group", {
  stopifnot(identical(await.workers(group = "g"), list(workers = list(), failures = list())), last()$group == "g")
  stopifnot(is.null(stop.workers(group = "g")), identical(last(), list(group = "g")))
})
fails("invalid", await.workers(a, group = "g"), "both were given")
fails("invalid", stop.workers(a, group = "g"), "both were given")

# restart.
for (form in list(list(w), list(w[[1]], b), list(c(a, b)))) {
  got <- do.call(restart.workers, form)
  stopifnot(identical(unlist(last()$ids), c(a, b)), got[[1]]$restart_of == a, got[[1]]$id != a)
}
got <- restart.workers("gone", list(message = "no GPU"))
stopifnot(length(got) == 2, is.null(got[[1]]$id), got[[1]]$message == "it is forgotten", grepl("no GPU", got[[2]]$message))
r2 <- with_key("invalid", restart.workers(a, b))
stopifnot(length(r2) == 2, r2[[2]]$message == "the message; the hint")
stopifnot(identical(restart.workers(list()), list()))
fails("invalid", restart.workers(), "needs the workers")

# Output. The tests' server has that of the first worker alone.
stopifnot(identical(worker.logs("w000000000000000"), c("one", "tw\u00f6", "<ff>")), identical(worker_logs, worker.logs))
invisible(requests())
invisible(worker.logs(list(id = "w000000000000000"), "stderr", 20))
stopifnot(requests()[[1]]$path == "/muster/v1/engines/w000000000000000/log?raw=true&stream=stderr&tail=20")
fails("not_found", worker.logs("nobody00"))
invisible(requests())
Sys.setenv(CDSW_MASTER_ID = "session0session0")
for (beginning in list("w", "w00000", "w00000000", 7, "session0", "session0session0")) {
  fails("not_found", worker.logs(beginning), "no worker of this session has the id")
}
Sys.unsetenv("CDSW_MASTER_ID")
fails("invalid", worker.logs(""), "must not be empty")
fails("invalid", worker.logs(charToRaw("w0000000")), "id or description")
fails("invalid", worker.logs("w000000000000000", tail = 1e20), "from 1 to 100000")
stopifnot(length(requests()) == 0L)
told <- NULL
with_key("damaged", withCallingHandlers(
  stopifnot(identical(worker.logs("w000000000000000"), "one")),
  warning = function(w) {
    told <<- conditionMessage(w)
    invokeRestart("muffleWarning")
  }
))
stopifnot(identical(told, "muster: console file /t\u00fcr/w.log is damaged at byte 31"))
fails("invalid", worker.logs(a, "stdin"), "stream must be")
for (bad in list(0, 1.5, -1, NA)) fails("invalid", worker.logs(a, tail = bad), "tail must be")
for (bad in list(NULL, list(), w, list(message = "no GPU"))) fails("invalid", worker.logs(bad), "one worker")
stopifnot(
  identical(cdsw:::lines_of(raw()), character()), identical(cdsw:::lines_of(charToRaw("\n")), ""),
  identical(cdsw:::lines_of(charToRaw("a\n\nb")), c("a", "", "b"))
)
invisible(requests())

# A server that is not what it should be.
calls <- list(
  quote(launch.workers(1, 1, 1)), quote(list.workers()), quote(await.workers()), quote(stop.workers()),
  quote(restart.workers("x")), quote(worker.logs("w000000000000000"))
)
for (call in calls) {
  for (key in c("html", "array", "empty", "gateway", "bytes", "noise")) {
    with_key(key, fails("bad_reply", eval(call), c(base, "no Muster server", "MUSTER_URL")))
  }
  with_key("version", fails("version", eval(call), c("version 2", "same release")))
  with_key("unauthorized", fails("unauthorized", eval(call), "the hint"))
  with_key("hangup", fails("server_down", eval(call), "broke the connection"))
}
with_key("half", fails("server_down", await.workers(), "before the result"))
with_key("invalid", fails("invalid", list.workers(), "the message; the hint"))
invisible(requests())
with_key("hangup", try(restart.workers("x"), silent = TRUE))
stopifnot(length(requests()) == 1) # never sent twice

# A server that went away is waited for; a launch that is sent twice is known by its key.
away$patience <- 0.3
invisible(requests())
seed <- if (exists(".Random.seed")) .Random.seed
with_key("hangup", fails("server_down", launch.workers(1, 1, 1), "broke the connection"))
keys <- vapply(requests(), function(r) r$body$key, "")
stopifnot(length(keys) >= 2, length(unique(keys)) == 1, nchar(keys[1]) >= 20, nchar(keys[1]) <= 64)
stopifnot(identical(seed, if (exists(".Random.seed")) .Random.seed))
invisible(launch.workers(1, 1, 1))
stopifnot(!requests()[[1]]$body$key %in% keys)
with_key("hangup", fails("server_down", worker.logs("w000000000000000"), "broke the connection"))
stopifnot(length(requests()) >= 2)
with_key("half", fails("server_down", await.workers(timeout_seconds = 50), "before the result"))
limits <- vapply(requests(), function(r) as.numeric(r$body$timeout_seconds), 0)
stopifnot(length(limits) >= 2, limits[1] == 50, all(diff(limits) < 0), all(limits > 0))
away$patience <- 0
Sys.setenv(MUSTER_URL = "http://127.0.0.1:1")
for (call in calls) fails("server_down", eval(call), c("http://127.0.0.1:1", "muster up"))
Sys.setenv(MUSTER_URL = "nonsense")
for (call in calls) fails("no_session", eval(call), "http://host:port")
Sys.unsetenv("MUSTER_URL")
for (call in calls) fails("no_session", eval(call), "muster run FILE")
Sys.setenv(MUSTER_URL = base)

# After a fork.
invisible(list.workers())
job <- parallel::mcparallel(length(list.workers()))
stopifnot(parallel::mccollect(job)[[1]] == length(list.workers()))

# Many.
stopifnot(length(launch.workers(10000, 1, 1)) == 10000)

# The small ones.
stopifnot(identical(get.auth(), list(user = "key", password = "")), is.null(track.metric("a", 1)), is.null(track.file("a")))

# The progress line.
lines <- character()
con <- textConnection("lines", "w", local = TRUE)
line <- cdsw:::progress_line(terminal = TRUE, out = con)
line$update(charToRaw('{"progress":{"done":1,"of":3,"waiting":"2 cores\\nwanted"}}\n'))
environment(line$draw)$begun <- proc.time()[["elapsed"]] - 2
line$draw()
line$clear()
close(con)
shown <- strsplit(paste(lines, collapse = ""), "\r")[[1]]
stopifnot(shown[2] == "waiting for workers: 1 of 3 done, 2 s (2 cores wanted)", !nzchar(trimws(shown[3])))
