// Package fake is a driver whose engines run inside this process: tiny programs in place of interpreters, connections of
// net.Pipe in place of a network, real console logs. It is a product part: it shows what Muster does on a machine that
// allows nothing, and the tests of everything above the driver contract use it.
//
// Three ideas. A World outlives the Driver, as processes outlive a server, so that Recover and List are real. A program
// is the text in the last word of Spec.Argv (or the file that this word names), one instruction on each line:
//
//	print TEXT          write a line to stdout           stderr TEXT       write a line to stderr
//	raw QUOTED          write a Go string to stdout      env [KEY]         print the environment, or one value
//	numbers N           write the lines 0 to N-1
//	pwd                 print the working directory      resolve           print hostname and address
//	sleep DURATION      go on after it                   hang              until it is ended
//	exit N              end with this exit code          signal N          end by this signal
//	oom                 end as out of memory             alloc BYTES       allocate; over the limit is out of memory
//	ignore-term         SIGTERM does nothing any more    trap N TEXT       at signal N print TEXT and exit 0
//	cat                 copy stdin to stdout             serve PORT TEXT   answer every connection with a line of text
//	connect ADDR PORT   print what it answers            grandchild FIFO   a descendant that holds FIFO open for writing
//	line                read a line of stdin             await-file PATH   go on when there is one
//
// $KEY in an instruction is replaced from the engine's environment. And everything can go wrong on demand: Options delay,
// refuse or fail each step of a start, and lose, double or misorder observations.
//
// It looks at driver, engine, api (the form of events) and console. Only package app and tests import it.
package fake
