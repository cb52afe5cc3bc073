// Package api holds the wire types of Muster's own API, /muster/v1: what the server writes and the clients read. It
// uses the standard library only and looks at nothing else of ours, so that every client may import it.
package api

import (
	"encoding/json"
	"time"
)

// Version of the API. A client and a server with the same Version understand each other; fields are only added.
const Version = 1

// Base is the path that all routes of the API begin with.
const Base = "/muster/v1"

// Header names.
const (
	// HeaderVersion is set by clients on every request and by the server on every reply.
	HeaderVersion = "Muster-Api-Version"
	// HeaderDamaged is the trailer of a reply that is the bytes of a log, if the log is damaged: a sentence (UTF-8) that tells where
	// they end. The forms with records have a record of stream "event" for it, its payload an Event of type "damaged".
	HeaderDamaged = "Muster-Damaged"
)

// Error is the body of every reply with a status of 400 or above.
type Error struct {
	Kind    string `json:"kind" doc:"class of the error, for programs"`
	Message string `json:"message" doc:"what went wrong, with the value"`
	Hint    string `json:"hint,omitempty" doc:"what to do next"`
}

// VersionInfo answers GET /version, the only route that needs no token.
type VersionInfo struct {
	API     int    `json:"api"`
	Muster  string `json:"muster"`
	Driver  string `json:"driver" doc:"local, plain or fake"`
	Started string `json:"started" doc:"when the server started, RFC 3339"`
}

// LeaseConnection is the lease of a session that lives as long as its creator is connected.
const LeaseConnection = "connection"

// CreateSession is the body of POST /sessions: a script or code as a session, or a process that runs already (attached), of
// which only name, kernel, interpreter, project, base_env and owner_pid are said.
type CreateSession struct {
	Kind        string            `json:"kind,omitempty" doc:"script, terminal or attached; empty: terminal with tty, else script"`
	Name        string            `json:"name,omitempty"`
	Kernel      string            `json:"kernel,omitempty" doc:"python3, python2, r, scala or one of the project's settings; empty: by the script's ending"`
	Script      string            `json:"script,omitempty" doc:"file to run, relative to the project or absolute"`
	Code        string            `json:"code,omitempty" doc:"code to run, if script is empty"`
	Args        []string          `json:"args,omitempty" doc:"the script's arguments"`
	Project     string            `json:"project" doc:"absolute path of the project folder"`
	CPU         float64           `json:"cpu,omitempty" doc:"cores; 0: the project's default, else 1"`
	Memory      float64           `json:"memory,omitempty" doc:"gigabytes (1e9 bytes); 0: the project's default, else no limit"`
	GPUs        int               `json:"nvidia_gpu,omitempty"`
	BaseEnv     map[string]string `json:"base_env,omitempty" doc:"the caller's environment: the session and all its workers get it"`
	Env         map[string]string `json:"env,omitempty" doc:"for the session alone"`
	OwnerPID    int               `json:"owner_pid,omitempty" doc:"process whose end ends the session: the one that asks, through the unix socket"`
	Lease       string            `json:"lease,omitempty" enum:"connection" doc:"connection: the session ends when nobody has read its console with lease=true for 10 s. So it is in any case where a token that people made asks, from no owner_pid"`
	Terminal    bool              `json:"terminal,omitempty" doc:"a terminal shows the session's stderr: progress lines make sense"`
	TTY         *TerminalSize     `json:"tty,omitempty" doc:"the kernel's interactive interpreter in a terminal of this size; without script and code, stdin is implied"`
	Interpreter string            `json:"interpreter,omitempty" doc:"of an attached session: absolute path of what its workers of the same kernel run on"`
	Stdin       bool              `json:"stdin,omitempty" doc:"the client will stream stdin by POST /sessions/{id}/stdin"`
}

// Stdin is the reply to POST /sessions/{id}/stdin.
type Stdin struct {
	Written int64 `json:"written" doc:"bytes, of all that was ever written"`
	Closed  bool  `json:"closed" doc:"nothing more can be written: it was closed, or nobody reads it"`
}

// TerminalSize is a terminal's size in characters, and the body of POST /sessions/{id}/resize.
type TerminalSize struct {
	Rows int `json:"rows" minimum:"1" maximum:"65535"`
	Cols int `json:"cols" minimum:"1" maximum:"65535"`
}

// Session describes a session. Token is only in the reply to its creation.
type Session struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Kind      string    `json:"kind" doc:"script, terminal, kernel or attached"`
	Project   string    `json:"project"`
	User      string    `json:"user,omitempty" doc:"whose it is, on a server that several users share"`
	CreatedAt time.Time `json:"created_at"`
	Token     string    `json:"token,omitempty"`
	Folder    string    `json:"folder,omitempty" doc:"where the output stays, on the server's machine; told to who creates the session"`
	Ended     bool      `json:"ended"`
	Engine    Worker    `json:"engine" doc:"the session's own engine"`
	Workers   int       `json:"workers" doc:"workers launched so far"`
	Live      int       `json:"live" doc:"workers that have not ended"`
	// Env is only in the reply to the creation of an attached session.
	Env map[string]string `json:"env,omitempty" doc:"what the attached process is to set for itself: who it is, and where the API"`
}

// LaunchWorkers is the body of POST /sessions/{id}/workers.
type LaunchWorkers struct {
	N      int               `json:"n"`
	Name   string            `json:"name,omitempty"`
	Kernel string            `json:"kernel,omitempty" doc:"empty: by the script's ending, else the session's"`
	Script string            `json:"script,omitempty"`
	Code   string            `json:"code,omitempty"`
	CPU    float64           `json:"cpu"`
	Memory float64           `json:"memory" doc:"gigabytes (1e9 bytes)"`
	GPUs   int               `json:"nvidia_gpu,omitempty"`
	Env    map[string]string `json:"env,omitempty"`
	Group  string            `json:"group,omitempty" doc:"a label: list, await and stop take it"`
	// Retries and TimeLimit hold for each worker.
	Retries   int     `json:"retries,omitempty" doc:"how often a worker that failed is started again, as another engine; at most 1000"`
	TimeLimit float64 `json:"timeout_seconds,omitempty" doc:"how long an attempt may run: SIGTERM, after 2 s SIGKILL; 0: as long as it likes"`
	Key       string  `json:"key,omitempty" doc:"the caller's, at most 64 bytes: the same key is the same launch, whose answer is given again"`
	// OrElse is for callers that name no sizes. Sizes that are 0 are the project's default in any case.
	OrElse bool `json:"or_else,omitempty" doc:"cpu and memory of 0, where the project has no default, are 1 core and 1 GB"`
}

// Workers is a list of descriptions; a refused worker is one without id, with message.
type Workers struct {
	Workers []Worker `json:"workers"`
}

// Await is the body of POST /sessions/{id}/await. The reply is Awaited, or, when the client accepts
// application/x-ndjson, lines of AwaitLine: progress as it happens, then the result.
type Await struct {
	IDs        []string `json:"ids,omitempty" doc:"empty or absent: all workers of the session"`
	All        bool     `json:"all,omitempty" doc:"await all workers whatever ids says"`
	Group      string   `json:"group,omitempty" doc:"await the workers of this group; without ids"`
	Completion bool     `json:"wait_for_completion" doc:"true: until they succeeded; false: until they run"`
	Timeout    float64  `json:"timeout_seconds,omitempty" doc:"0: no timeout"`
}

// Awaited is what await_workers returns.
type Awaited struct {
	Workers  []Worker `json:"workers"`
	Failures []Worker `json:"failures"`
}

// AwaitLine is one line of a streamed await: exactly one field is set.
type AwaitLine struct {
	Progress *AwaitProgress `json:"progress,omitempty"`
	Result   *Awaited       `json:"result,omitempty"`
	Error    *Error         `json:"error,omitempty"`
}

// AwaitProgress counts the workers that an await covers. That all are done, the result says.
type AwaitProgress struct {
	Done    int    `json:"done" doc:"workers that reached it, or never will"`
	Of      int    `json:"of"`
	Waiting string `json:"waiting,omitempty" doc:"why the first waiting worker waits"`
}

// Stop is the body of POST /sessions/{id}/stop.
type Stop struct {
	IDs   []string `json:"ids,omitempty"`
	All   bool     `json:"all,omitempty" doc:"stop all workers whatever ids says"`
	Group string   `json:"group,omitempty" doc:"stop the workers of this group; without ids"`
}

// Restart is the body of POST /sessions/{id}/restart: the work of these workers is started again, by other engines. Those that
// have not ended are stopped first. The reply is Workers, one for each id: one that cannot be started again is a refused one.
type Restart struct {
	IDs []string `json:"ids"`
}

// Stopped answers a Stop: one status for each id, in the order asked (with All: one for each worker that was live).
type Stopped struct {
	Results []StopResult `json:"results"`
}

// StopResult tells of one id: 204 when it was live or had ended before, 404 when the session has no such worker.
type StopResult struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
}

// Interrupt is the body of POST /sessions/{id}/interrupt (SIGINT to the session's own engine).
type Interrupt struct{}

// Worker is the description of an engine: a session's own or a worker's. Keys are the original's; those after
// "creator" are ours. Times are RFC 3339 UTC with milliseconds, or null.
type Worker struct {
	ID           string  `json:"id,omitempty" doc:"absent in a refused worker"`
	Name         string  `json:"name"`
	Status       string  `json:"status"`
	IPAddress    string  `json:"ip_address" doc:"\"unknown\" until it has one"`
	AppURL       string  `json:"app_url"`
	CPU          float64 `json:"cpu"`
	Memory       float64 `json:"memory"`
	GPUs         int     `json:"nvidia_gpu"`
	Kernel       string  `json:"kernel"`
	CreatedAt    *string `json:"created_at"`
	SchedulingAt *string `json:"scheduling_at"`
	StartingAt   *string `json:"starting_at"`
	RunningAt    *string `json:"running_at"`
	StoppingAt   *string `json:"stopping_at"`
	FinishedAt   *string `json:"finished_at"`
	Duration     int64   `json:"duration" doc:"whole seconds since running"`
	ExitCode     *int    `json:"exit_code"`
	OOMKilled    bool    `json:"oomKilled"`
	K8s          K8s     `json:"k8s" doc:"why it waits or failed"`
	MasterID     string  `json:"master_id"`
	Batch        bool    `json:"batch"`
	Adhoc        bool    `json:"adhoc"`
	Deleted      bool    `json:"deleted"`
	Workers      int     `json:"workers"`
	Cost         int     `json:"cost"`
	ClusterID    int     `json:"cluster_id"`
	URL          string  `json:"url"`
	HTMLURL      string  `json:"html_url"`
	Project      Project `json:"project"`
	Owner        Person  `json:"owner"`
	Creator      Person  `json:"creator"`
	// Of a refused worker only:
	Message    string `json:"message,omitempty"`
	K8sMessage string `json:"k8sMessage,omitempty"`
	EngineID   string `json:"engineId,omitempty"`
	// Ours:
	Reason    string    `json:"reason,omitempty" doc:"why it ended, one of the engine reasons"`
	Evidence  *Evidence `json:"evidence,omitempty"`
	Group     string    `json:"group,omitempty"`
	TimeLimit float64   `json:"timeout_seconds,omitempty" doc:"how long it may run"`
	Retries   int       `json:"retries,omitempty" doc:"how often it is started again when it failed"`
	Attempt   int       `json:"attempt,omitempty" doc:"of a worker with retries: from 1 on"`
	RetryOf   string    `json:"retry_of,omitempty" doc:"id of the first attempt, which the launch returned"`
	RetriedAs string    `json:"retried_as,omitempty" doc:"id of the next attempt"`
	RestartOf string    `json:"restart_of,omitempty" doc:"id of the worker that was restarted as this one"`
}

// K8s says why an engine waits or failed, under the names that scripts of the original read.
type K8s struct {
	Reason            *string `json:"reason"`
	Message           *string `json:"message"`
	InternalErrorCode *int    `json:"internal_error_code"`
	ExitCode          *int    `json:"exit_code"`
}

// Evidence is what was measured at an engine's end.
type Evidence struct {
	Signal           int     `json:"signal,omitempty"`
	By               string  `json:"by,omitempty"`
	Step             string  `json:"step,omitempty"`
	MemoryLimitBytes int64   `json:"memory_limit_bytes,omitempty"`
	MemoryPeakBytes  int64   `json:"memory_peak_bytes,omitempty"`
	CPUSeconds       float64 `json:"cpu_seconds,omitempty"`
	TimeLimitSeconds float64 `json:"time_limit_seconds,omitempty" doc:"of an engine that was ended at its time limit"`
}

// Project is the folder of files that a session and its workers share.
type Project struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Slug    string `json:"slug" doc:"owner/name"`
	URL     string `json:"url"`
	HTMLURL string `json:"html_url"`
}

// Person is an owner or creator.
type Person struct {
	ID       int    `json:"id"`
	Username string `json:"username"`
	Name     string `json:"name"`
	URL      string `json:"url"`
	HTMLURL  string `json:"html_url"`
}

// ConsoleRecord is one record of a console stream as NDJSON (Accept: application/x-ndjson), for people's scripts.
// The default form is binary: see package console, type Frame. Exactly one of Text and Base64 is set.
//
// Where records cannot be read there is one of stream "event", its payload an Event of type "damaged", once for as many as follow
// each other. A session's console goes on behind it, the log of one engine ends with it; its position may be empty.
type ConsoleRecord struct {
	Position string `json:"position" doc:"pass as from= to go on after this record"`
	Engine   string `json:"engine"`
	Stream   string `json:"stream" doc:"stdout, stderr, stdin, event or display"`
	Time     string `json:"time" doc:"RFC 3339 with nanoseconds"`
	Text     string `json:"text,omitempty"`
	Base64   string `json:"base64,omitempty" doc:"payload that is not UTF-8"`
}

// Event is the payload of a console record of stream "event".
type Event struct {
	Type    string  `json:"type" doc:"engine (first record of each engine), notice, refused, waiting, retry, exit, session; damaged: records that were here cannot be read"`
	Engine  string  `json:"engine,omitempty"`
	RetryOf string  `json:"retry_of,omitempty" doc:"the attempt that failed, where engine is the next one (retry)"`
	Name    string  `json:"name,omitempty"`
	Role    string  `json:"role,omitempty" doc:"session or worker"`
	Address string  `json:"address,omitempty"`
	Message string  `json:"message,omitempty" doc:"a sentence for people"`
	Reason  string  `json:"reason,omitempty"`
	Code    *int    `json:"code,omitempty"`
	Status  string  `json:"status,omitempty" doc:"final status (exit)"`
	Ending  *Ending `json:"ending,omitempty" doc:"of an exit"`
}

// Ending is all that is known of an engine's end, for a server that comes when nobody else knows of it any more.
type Ending struct {
	Started *time.Time      `json:"started,omitempty" doc:"since when it was running; absent: it never was"`
	Exit    json.RawMessage `json:"exit" doc:"engine.Exit"`
}
