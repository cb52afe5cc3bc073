library(cdsw)

prints <- function(expression, want) {
  got <- paste(capture.output(value <- force(expression)), collapse = "\n")
  if (!identical(got, want)) stop("printed ", deparse(got), ", not ", deparse(want))
  invisible(value)
}

# The words of HTML, in lines as a browser has them, with the links' addresses.
page <- paste0(
  "<html><head><title>t</title><style>p {}</style></head><body><h1>Scores</h1>\n<p>The <b>best</b> is\n 1 &lt; 2 &amp; 3.</p>",
  "<script>alert('x')</script><!-- no --><ul><li>one</li><li>two</li></ul>",
  "<p>See <a class='x' href=\"http://a.b/c\">the page</a>.</p></body></html>"
)
prints(html(page), "Scores\nThe best is 1 < 2 & 3.\n- one\n- two\nSee the page (http://a.b/c).")
prints(html(c("<p>a</p>", "<p>b</p>")), "a\nb")
prints(html("1 < 2 and 3 > 2"), "1 < 2 and 3 > 2")
prints(html("&amp;lt;"), "&lt;")
stopifnot(identical(prints(html("<i>x</i>"), "x"), "<i>x</i>"))

stopifnot(identical(prints(markdown("# Title\n\n*text*"), "# Title\n\n*text*"), "# Title\n\n*text*"))
prints(iframe("http://localhost:8090/", height = "600px"), "[frame: http://localhost:8090/]")
prints(iframe(src = "http://x/", "50%"), "[frame: http://x/]")

# A file's name, and everything else as graphics draws it.
dir <- tempfile()
dir.create(dir)
file <- file.path(dir, "plot.png")
writeBin(raw(2500), file)
prints(image(file), paste0("[image: ", file, ", 2.5 kB]"))
prints(cdsw::image(file), paste0("[image: ", file, ", 2.5 kB]"))
for (bad in c(file.path(dir, "missing.png"), dir)) {
  e <- tryCatch(image(bad), error = identity)
  stopifnot(inherits(e, "muster_error_invalid"), grepl("there is no image file", conditionMessage(e)))
}
drawn <- file.path(dir, "drawn.png")
grDevices::pdf(drawn)
prints(image(matrix(1:4, 2)), "")
invisible(grDevices::dev.off())
stopifnot(file.size(drawn) > 1000, identical(cdsw::image, graphics::image))

# The newer package has the same functions.
for (f in c("html", "markdown", "iframe", "image", "get.auth")) stopifnot(identical(getExportedValue("cml", f), getExportedValue("cdsw", f)))
stopifnot(identical(get.auth(), list(user = "key", password = "")))
