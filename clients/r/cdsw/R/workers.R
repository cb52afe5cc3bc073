# The four calls, and the small ones beside them.

launch.workers <- function(n, cpu, memory, nvidia_gpu = 0, kernel = "r", script = "", code = "", env = "", name = NULL,
                           accelerator_label_id = NULL, resource_profile_id = NULL, resource_group_id = NULL) {
  count <- as_count(n)
  script <- as_text(script)
  body <- list(
    n = count,
    cpu = as_number("cpu", cpu),
    memory = as_number("memory", memory),
    nvidia_gpu = as_number("nvidia_gpu", nvidia_gpu),
    kernel = as_kernel(kernel, !missing(kernel), script),
    script = script,
    code = as_text(code),
    env = as_environment_variables(env),
    name = as_text(name)
  )
  if (count == 0) {
    return(list())
  }
  before_launch()
  tryCatch(
    count_launched(workers_of(request("POST", "/sessions/self/workers", body), "workers")),
    muster_error = function(e) if (e$kind %in% no_answer) stop(e) else refused_workers(count, conditionMessage(e))
  )
}

# The kinds of errors that say that nobody decided on the request, or ever will for this process. All others are a server's
# refusal, and launching raises no error for one.
no_answer <- c("no_session", "unauthorized", "version", "bad_reply", "server_down")

# The descriptions of n workers that were refused together; says so where a person looks.
refused_workers <- function(n, message) {
  cat(sprintf("muster: %d worker%s refused: %s\n", n, if (n == 1) "" else "s", message), file = errors_to())
  rep(list(list(message = message, k8sMessage = message, engineId = "")), n)
}

list.workers <- function() {
  workers_of(request("GET", "/sessions/self/workers"), "workers")
}

await.workers <- function(ids = NULL, wait_for_completion = TRUE, timeout_seconds = 60) {
  body <- list(wait_for_completion = isTRUE(as.logical(wait_for_completion)), timeout_seconds = as_timeout(timeout_seconds))
  refused <- list()
  if (is.null(ids)) {
    body$all <- TRUE
  } else {
    wanted <- as_ids(ids)
    refused <- wanted$refused
    if (length(wanted$ids) == 0L) { # to the server, no ids are all ids
      return(list(workers = list(), failures = refused))
    }
    body$ids <- I(wanted$ids)
  }
  reply <- await_lines("/sessions/self/await", body)
  list(workers = workers_of(reply, "workers"), failures = c(workers_of(reply, "failures"), refused))
}

stop.workers <- function(...) {
  body <- list(all = TRUE)
  refused <- list()
  if (...length() > 0L) {
    wanted <- as_ids(list(...))
    refused <- wanted$refused
    body <- list(ids = I(wanted$ids))
  }
  results <- list()
  if (isTRUE(body$all) || length(body$ids) > 0L) {
    results <- lapply(workers_of(request("POST", "/sessions/self/stop", body), "results"), function(r) {
      stop_response(r$id, r$status)
    })
  }
  results <- c(results, lapply(refused, function(w) stop_response("", 404L)))
  if (length(results) == 0L) NULL else results
}

# What became of one id.
stop_response <- function(id, status) {
  structure(list(id = id, status_code = as.integer(status), ok = status < 400), class = "muster_response")
}

format.muster_response <- function(x, ...) sprintf("<Response [%d]>", x$status_code)

print.muster_response <- function(x, ...) {
  cat(format(x), "\n", sep = "")
  invisible(x)
}

get.auth <- function() {
  ready()
  list(user = Sys.getenv("CDSW_API_KEY"), password = "")
}

# Metrics and tracked files belong to the original's experiments; in its sessions these two do nothing either.
track.metric <- function(key, value) invisible(NULL)
track.file <- function(src) invisible(NULL)

launch_workers <- launch.workers
list_workers <- list.workers
await_workers <- await.workers
stop_workers <- stop.workers
get_auth <- get.auth
track_metric <- track.metric
track_file <- track.file
