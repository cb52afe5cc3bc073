// What an interpreter of Scala that is started ahead of its work does: it compiles a little, so that the compiler is loaded and warm,
// and then waits for words as a script of Python would (workOf). Scripts are run as the command that runs this one would run them.
import java.io._

object Ahead {
  def main(args: Array[String]): Unit = {
    val folder = args(0)
    val system = ClassLoader.getSystemClassLoader // whose compiler has compiled this; a script's own has another one
    Thread.currentThread.setContextClassLoader(system)
    val runner = Class.forName("scala.tools.nsc.MainGenericRunner$", true, system).getField("MODULE$").get(null)
    def call(name: String, words: String*) =
      runner.getClass.getMethod(name, classOf[Array[String]]).invoke(runner, words.toArray[String].asInstanceOf[Object])

    for (_ <- 1 to 4) call("process", "-nc", "-e", "val x = (1 to 3).map(_ + 1).filter(_ > 2).mkString")
    val says = new FileOutputStream(folder + "/waits")
    val work = new FileInputStream(folder + "/work")
    says.write('w')
    val read = new ByteArrayOutputStream
    val part = new Array[Byte](65536)
    var n = work.read(part)
    while (n > 0) {
      read.write(part, 0, n)
      n = work.read(part)
    }
    val words = read.toString("UTF-8").split("\u0000", -1)
    if (words.length < 3 || words.length != 3 + words(0).toInt + words(1).toInt) sys.exit(1) // no work, or not all of it
    says.write('t')
    says.close()
    work.close()
    call("main", words.slice(2, 2 + words(0).toInt): _*)
  }
}
