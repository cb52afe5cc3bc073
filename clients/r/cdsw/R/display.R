# What shows rich output in the original's browser console. Where the console is text, each prints what a person can use of it:
# the words, the address, the file.

html <- function(x) {
  cat(html_text(as_text(x)), "\n", sep = "")
  invisible(x)
}

markdown <- function(x) {
  cat(as_text(x), "\n", sep = "") # made to be read as it is
  invisible(x)
}

iframe <- function(src, width = "100%", height = "400px") {
  cat("[frame: ", as_text(src), "]\n", sep = "")
  invisible(src)
}

# image("plot.png") is the method of graphics' own generic function for file names: image(volcano) still draws.
image.character <- function(x, ...) {
  for (file in x) {
    info <- file.info(file, extra_cols = FALSE)
    if (is.na(info$size) || info$isdir) {
      muster_stop("invalid", sprintf("there is no image file %s", shown(file)), "give a file's path, relative to the project or absolute")
    }
    cat("[image: ", file, ", ", format(structure(info$size, class = "object_size"), units = "auto", standard = "SI"), "]\n", sep = "")
  }
  invisible(x)
}

# The text of HTML: blocks become lines, links keep their address.
html_text <- function(x) {
  x <- gsub("(?is)<(script|style|head)\\b.*?</\\1\\s*>|<!--.*?-->", "", x, perl = TRUE)
  x <- gsub("[ \t\r\n]+", " ", x)
  x <- gsub("(?i)<a\\b[^>]*?\\bhref\\s*=\\s*[\"']([^\"']*)[\"'][^>]*>(.*?)</a\\s*>", "\\2 (\\1)", x, perl = TRUE)
  x <- gsub("(?i)<li\\b[^>]*>", "\n- ", x, perl = TRUE)
  x <- gsub("(?i)</t[dh]\\s*>", "\t", x, perl = TRUE)
  x <- gsub("(?i)<br\\b[^>]*>|</?(p|div|h[1-6]|tr|table|ul|ol|pre|section|blockquote)\\b[^>]*>", "\n", x, perl = TRUE)
  x <- gsub("<[/!a-zA-Z][^>]*>", "", x)
  for (e in list(c("&nbsp;", " "), c("&lt;", "<"), c("&gt;", ">"), c("&quot;", "\""), c("&#39;", "'"), c("&amp;", "&"))) {
    x <- gsub(e[1L], e[2L], x, fixed = TRUE)
  }
  trimws(gsub("[ \t]*\n[ \n]*", "\n", x))
}
