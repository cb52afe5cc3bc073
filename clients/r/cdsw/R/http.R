# Requests to the server. Each has a connection of its own: when a kept one turns out to be closed libcurl sends a request
# again by itself, and some must never be sent twice; a forked child must not talk on its parent's; and to a server on
# this machine a connection costs next to nothing. What may be carried out twice (away.R) is asked again while no server answers.

api_version <- "1"
client_version <- "0.1.0"
line_type <- "application/x-ndjson"

# Stops with a condition whose classes tell the kind: c("muster_error_<kind>", "muster_error", "error", "condition").
muster_stop <- function(kind, message, hint = "") {
  text <- if (nzchar(hint)) paste0(message, "; ", hint) else message
  stop(structure(
    class = c(paste0("muster_error_", kind), "muster_error", "error", "condition"),
    list(message = text, call = NULL, kind = kind, hint = hint, text = message)
  ))
}

# Sends a request and returns the reply as a list. repeatable: it may be carried out twice.
request <- function(method, path, body = NULL, repeatable = method == "GET") {
  ready()
  once <- function() request_once(method, path, body, repeatable)
  reply <- if (repeatable) with_patience(once) else once()
  show_console()
  reply
}

request_once <- function(method, path, body, repeatable) {
  handle <- new_request(method, body, "application/json")
  # Launching thousands of workers on a busy machine takes its time; a server that is silent for longer is broken.
  curl::handle_setopt(handle, timeout = 300)
  response <- tryCatch(
    curl::curl_fetch_memory(paste0(base_url(), path), handle),
    error = function(e) server_down(conditionMessage(e), repeatable)
  )
  decode(response, response$content)
}

# Sends a request that is answered by bytes and returns them.
read_bytes <- function(path) {
  ready()
  content <- with_patience(function() read_bytes_once(path))
  show_console()
  content
}

read_bytes_once <- function(path) {
  handle <- new_request("GET", NULL, "application/octet-stream, application/json")
  response <- tryCatch(
    curl::curl_fetch_memory(paste0(base_url(), path), handle),
    error = function(e) server_down(conditionMessage(e), TRUE)
  )
  if (response$status_code != 200L || !identical(as.character(response$type), "application/octet-stream")) {
    decode(response, response$content) # tells the error
    bad_reply("JSON in place of bytes")
  }
  check_version(response)
  damaged <- damage_of(response)
  if (nzchar(damaged)) warning("muster: ", damaged, call. = FALSE)
  response$content
}

# What the trailer of a reply tells of a damaged log, "" if nothing. libcurl gives trailers behind the headers.
damage_of <- function(response) {
  lines <- strsplit(text_of(response$headers), "\r?\n")[[1L]]
  told <- sub("^muster-damaged: *", "", grep("^muster-damaged:", lines, ignore.case = TRUE, value = TRUE), ignore.case = TRUE)
  if (length(told)) told[[1L]] else ""
}

# Returns bytes as lines. The last one need not be ended.
lines_of <- function(bytes) {
  if (length(bytes) == 0L) {
    return(character())
  }
  lines <- strsplit(text_of(bytes), "\n", fixed = TRUE)[[1L]]
  if (length(lines)) lines else ""
}

# Sends an await and returns its result; shows progress on a terminal meanwhile. A server that comes later has what is left of
# its time.
await_lines <- function(path, body) {
  ready()
  began <- proc.time()[["elapsed"]]
  limit <- body$timeout_seconds
  again <- FALSE
  with_patience(function() {
    if (again && limit > 0) body$timeout_seconds <- max(limit - (proc.time()[["elapsed"]] - began), 0.001)
    again <<- TRUE
    await_lines_once(path, body)
  })
}

await_lines_once <- function(path, body) {
  handle <- new_request("POST", body, paste0(line_type, ", application/json"))
  if (body$timeout_seconds > 0) curl::handle_setopt(handle, timeout = body$timeout_seconds + 60)
  line <- progress_line()
  on.exit(line$clear())
  curl::handle_setopt(handle, url = paste0(base_url(), path))
  pool <- curl::new_pool()
  pieces <- list()
  response <- NULL
  failure <- NULL
  curl::multi_add(handle,
    done = function(r) response <<- r,
    fail = function(message) failure <<- message,
    data = function(bytes, ...) {
      pieces[[length(pieces) + 1L]] <<- bytes
      line$update(bytes)
    },
    pool = pool
  )
  on.exit(if (is.null(response) && is.null(failure)) curl::multi_cancel(handle), add = TRUE) # Ctrl-C only ends the waiting
  while (is.null(response) && is.null(failure)) {
    curl::multi_run(timeout = 1, pool = pool)
    line$draw()
    show_console()
  }
  show_console()
  if (!is.null(failure)) server_down(failure, TRUE)
  content <- if (length(pieces)) do.call(c, pieces) else raw()
  if (response$status_code != 200 || !isTRUE(startsWith(as.character(response$type), line_type))) {
    return(decode(response, content))
  }
  check_version(response)
  result_of(content)
}

# Returns the result that the lines of an await end with.
result_of <- function(content) {
  result <- NULL
  for (text in strsplit(text_of(content), "\n", fixed = TRUE)[[1L]]) {
    item <- parse_json(text)
    if (is.null(item)) bad_reply(sprintf("the line %s", shown(text)))
    if (is.list(item$error)) told(200L, item$error)
    if (is.list(item$result)) result <- item$result
  }
  if (is.null(result)) {
    muster_stop(
      "server_down", sprintf("the Muster server at %s ended its answer before the result", server_url()),
      "it was probably stopped; list.workers() tells whether it still lives"
    )
  }
  result
}

# Returns the list of descriptions that reply holds under key.
workers_of <- function(reply, key) {
  found <- reply[[key]]
  if (is.null(found) && key %in% names(reply)) {
    return(list())
  }
  if (!is.list(found) || !is.null(names(found)) || !all(vapply(found, is.list, NA))) {
    bad_reply(sprintf("a reply without a list of %s", key))
  }
  found
}

need_packages <- function() {
  for (package in c("curl", "jsonlite")) {
    # Also from where they were at the start: a .Rprofile may have hidden the machine's libraries, as renv does.
    if (!requireNamespace(package, quietly = TRUE) && !requireNamespace(package, lib.loc = state$libraries, quietly = TRUE)) {
      muster_stop(
        "unavailable", sprintf("R package %s is not installed", package),
        "install it, on Debian: apt-get install r-cran-jsonlite r-cran-curl"
      )
    }
  }
}

new_request <- function(method, body, accept, key = Sys.getenv("CDSW_API_KEY")) {
  need_packages()
  handle <- curl::new_handle()
  # No proxy: the server is on this machine or next to it.
  curl::handle_setopt(handle,
    customrequest = method, noproxy = "*", connecttimeout = 10, tcp_keepalive = 1L,
    useragent = paste0("muster-r/", client_version), fresh_connect = TRUE, forbid_reuse = TRUE
  )
  known_by(handle)
  if (!is.null(body)) {
    payload <- charToRaw(enc2utf8(as.character(jsonlite::toJSON(body, auto_unbox = TRUE, digits = NA, null = "null"))))
    curl::handle_setopt(handle, post = TRUE, postfieldsize = length(payload), postfields = payload)
  }
  curl::handle_setheaders(handle,
    "Authorization" = paste("Bearer", key), "Muster-Api-Version" = api_version,
    "Accept" = accept, "Content-Type" = "application/json", "Expect" = ""
  )
  handle
}

# Says how a server is known that is asked by https: by the machine's authorities, by those in MUSTER_TLS_CA, or by its key alone.
known_by <- function(handle) {
  authorities <- Sys.getenv("MUSTER_TLS_CA")
  if (nzchar(authorities)) curl::handle_setopt(handle, cainfo = authorities)
  fingerprint <- Sys.getenv("MUSTER_TLS_FINGERPRINT")
  if (nzchar(fingerprint)) {
    curl::handle_setopt(handle, pinnedpublickey = fingerprint, ssl_verifypeer = 0L, ssl_verifyhost = 0L)
  }
}

server_url <- function() {
  url <- Sys.getenv("MUSTER_URL")
  if (!grepl("^https?://[^/]+", url)) {
    muster_stop(
      "no_session", sprintf("MUSTER_URL is %s, which is no address of a server", shown(url)), "it has the form http://host:port"
    )
  }
  sub("/+$", "", url)
}

base_url <- function() paste0(server_url(), "/muster/v1")

# Returns the reply's JSON, or stops with the error that it tells.
decode <- function(response, content) {
  reply <- parse_json(text_of(content))
  check_version(response)
  if (is.null(reply)) {
    bad_reply(sprintf("HTTP %d with %s", response$status_code, shown(text_of(content[seq_len(min(80L, length(content)))]))))
  }
  if (response$status_code >= 400L) told(response$status_code, reply)
  if (response$status_code >= 300L) bad_reply(sprintf("HTTP %d", response$status_code))
  reply
}

# Returns a JSON object as a list, NULL for anything else.
parse_json <- function(text) {
  reply <- tryCatch(jsonlite::fromJSON(text, simplifyVector = FALSE), error = function(e) NULL)
  if (startsWith(trimws(text), "{") && is.list(reply)) reply else NULL
}

text_of <- function(bytes) {
  text <- rawToChar(bytes[bytes != as.raw(0L)])
  Encoding(text) <- "UTF-8"
  if (validUTF8(text)) text else iconv(text, "UTF-8", "UTF-8", sub = "byte")
}

check_version <- function(response) {
  headers <- curl::parse_headers_list(response$headers)
  version <- headers[["muster-api-version"]]
  if (!is.null(version) && trimws(version) != api_version) {
    muster_stop(
      "version",
      sprintf(
        "the server at %s speaks version %s of Muster's API, this client (cdsw %s) version %s", server_url(), version,
        client_version, api_version
      ),
      "restart the server and the session with the same release of muster"
    )
  }
}

told <- function(status, error) {
  if (!is.character(error$kind) || !is.character(error$message)) {
    bad_reply(sprintf("HTTP %d without kind and message", status))
  }
  muster_stop(error$kind, error$message, if (is.character(error$hint)) error$hint else "")
}

bad_reply <- function(what) {
  muster_stop(
    "bad_reply", sprintf("what answers at %s is no Muster server, or a broken one: it sent %s", server_url(), what),
    "check MUSTER_URL, and that server and session are of the same release of muster"
  )
}

# Says why libcurl got no answer; harmless: the request changes nothing.
server_down <- function(message, harmless) {
  if (grepl("HTTP/0.9", message, fixed = TRUE)) bad_reply("no HTTP")
  if (grepl("certificate|public key", message)) { # another server is not waited for
    muster_stop(
      "unavailable", sprintf("the Muster server at %s is not known to be the right one: %s", server_url(), message),
      "set MUSTER_TLS_FINGERPRINT to what muster up printed there, or MUSTER_TLS_CA to a file with its certificate"
    )
  }
  # Not "Connection reset": that may come after the request was carried out.
  if (grepl("failed to connect|couldn.t connect|could not connect|could not resolve|connection refused", message, ignore.case = TRUE)) {
    muster_stop(
      "server_down", sprintf("the Muster server at %s cannot be reached: %s", server_url(), message),
      "it has probably ended; start a new session with muster run, or the server with muster up"
    )
  }
  muster_stop(
    "server_down", sprintf("the Muster server at %s broke the connection before it had answered: %s", server_url(), message),
    if (harmless) "list.workers() tells whether it still lives" else "the request may have been carried out: list.workers() tells"
  )
}
