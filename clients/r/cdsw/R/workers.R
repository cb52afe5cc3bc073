# The four calls, restart.workers, worker.logs, and the small ones beside them.

launch.workers <- function(n, cpu, memory, nvidia_gpu = 0, kernel = "r", script = "", code = "", env = "", name = NULL,
                           accelerator_label_id = NULL, resource_profile_id = NULL, resource_group_id = NULL,
                           retries = 0, timeout_seconds = NULL, group = NULL) {
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
  body$retries <- as_retries(retries)
  body$timeout_seconds <- as_time_limit(timeout_seconds)
  body$group <- as_group(group)
  if (count == 0) {
    return(list())
  }
  start_workers("/sessions/self/workers", body, count)
}

# Asks for count workers. A refusal by the server becomes that many descriptions.
start_workers <- function(path, body, count) {
  before_launch()
  named <- endsWith(path, "/workers")
  if (named) body$key <- launch_key()
  tryCatch(
    count_launched(workers_of(request("POST", path, body, named), "workers")),
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

# Starts the work of workers again; those that live are stopped first. Gives descriptions of the new ones.
restart.workers <- function(...) {
  wanted <- as_ids(list(...))
  if (length(wanted$ids) + length(wanted$refused) == 0L && ...length() == 0L) {
    muster_stop("invalid", "restart.workers() needs the workers that are to be restarted")
  }
  workers <- list()
  if (length(wanted$ids)) workers <- start_workers("/sessions/self/restart", list(ids = I(wanted$ids)), length(wanted$ids))
  for (w in wanted$refused) {
    why <- if (is.null(w$message)) "this is no worker's description" else w$message
    workers <- c(workers, refused_workers(1, paste("no id:", why)))
  }
  workers
}

# Gives the lines that a worker has printed so far, or all if it has ended. Warns if they are damaged.
worker.logs <- function(id, stream = NULL, tail = NULL) {
  wanted <- as_ids(id)
  if (length(wanted$ids) != 1L || length(wanted$refused)) {
    muster_stop("invalid", sprintf("one worker with an id must be named, not %s", shown(id)))
  }
  check_id(wanted$ids)
  query <- "raw=true"
  if (!is.null(stream)) {
    if (!identical(stream, "stdout") && !identical(stream, "stderr")) {
      muster_stop("invalid", sprintf("stream must be \"stdout\" or \"stderr\" (NULL: both), not %s", shown(stream)))
    }
    query <- paste0(query, "&stream=", stream)
  }
  if (!is.null(tail)) query <- sprintf("%s&tail=%.0f", query, as_lines(tail))
  lines_of(read_bytes(sprintf("/engines/%s/log?%s", utils::URLencode(wanted$ids, reserved = TRUE), query)))
}

list.workers <- function(group = NULL) {
  group <- as_group(group)
  path <- "/sessions/self/workers"
  if (!is.null(group)) path <- paste0(path, "?group=", utils::URLencode(group, reserved = TRUE))
  workers_of(request("GET", path), "workers")
}

await.workers <- function(ids = NULL, wait_for_completion = TRUE, timeout_seconds = 60, group = NULL) {
  body <- list(wait_for_completion = isTRUE(as.logical(wait_for_completion)), timeout_seconds = as_timeout(timeout_seconds))
  refused <- list()
  body$group <- as_group(group, !is.null(ids))
  if (!is.null(body$group)) {
    # the server knows whom it names
  } else if (is.null(ids)) {
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

stop.workers <- function(..., group = NULL) {
  group <- as_group(group, ...length() > 0L)
  body <- if (is.null(group)) list(all = TRUE) else list(group = group)
  refused <- list()
  if (...length() > 0L) {
    wanted <- as_ids(list(...))
    refused <- wanted$refused
    body <- list(ids = I(wanted$ids))
  }
  results <- list()
  if (is.null(body$ids) || length(body$ids) > 0L) {
    # Sent twice, "all" might stop what was launched in between.
    results <- lapply(workers_of(request("POST", "/sessions/self/stop", body, !is.null(body$ids)), "results"), function(r) {
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
restart_workers <- restart.workers
worker_logs <- worker.logs
await_workers <- await.workers
stop_workers <- stop.workers
get_auth <- get.auth
track_metric <- track.metric
track_file <- track.file
