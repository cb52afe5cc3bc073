import java.io.{BufferedReader, InputStreamReader, PrintWriter}
import java.net.Socket

val connection = new Socket(sys.env("CDSW_MASTER_IP"), 6000)
val out = new PrintWriter(connection.getOutputStream, true)
val in = new BufferedReader(new InputStreamReader(connection.getInputStream))
out.println("Hello From Worker!")
val answer = in.readLine()
connection.close()
println("Worker received: " + answer)
if (answer != "Hello From Server!") sys.exit(1)
