// Command generator sends calls to a server and says how fast they were answered: gRPC (unary or
// streamed) or HTTP POST, in a closed loop (N in flight) or an open one (a fixed schedule).
//
// Bodies come encoded, from a file of templates (a big-endian uint32 of length before each). Wherever
// a template holds the marker, every call gets an id of its own of the same length, so no two calls
// are equal and nothing is encoded here. One line of JSON on standard output is the report.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// marker is where a template takes the id of the call.
const marker = "@@@@@@@@@@@@@@@@@@@@@@@@"

// A transport sends one body and returns what was answered, or the name of the failure.
type transport interface {
	call(ctx context.Context, worker int, body []byte) (answer []byte, failure string)
}

// load is one run: what is sent, and what came of it.
type load struct {
	templates [][]byte
	expect    []string
	nonce     uint32
	timeout   time.Duration
	counter   atomic.Uint64
	// Only what ends between these counts as measured.
	from, until time.Time

	mutex     sync.Mutex
	latencies []float64 // milliseconds, of measured answers
	failures  map[string]int
	answered  int // all answers, those of the warm-up included
}

// next returns a body that was never sent before, and its id.
func (l *load) next() ([]byte, string) {
	n := l.counter.Add(1) - 1
	id := fmt.Sprintf("%08x%016x", l.nonce, n)
	template := l.templates[n%uint64(len(l.templates))]
	body := make([]byte, len(template))
	copy(body, template)
	for rest := body; ; {
		at := bytes.Index(rest, []byte(marker))
		if at < 0 {
			return body, id
		}
		copy(rest[at:], id)
		rest = rest[at+len(marker):]
	}
}

// note records what came of a call that was due at `start`.
func (l *load) note(start time.Time, id string, answer []byte, failure string) {
	end := time.Now()
	for _, text := range l.expect {
		if failure == "" && !bytes.Contains(answer, []byte(strings.ReplaceAll(text, marker, id))) {
			failure = "UnexpectedAnswer"
		}
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if failure == "" {
		l.answered++
	}
	if end.Before(l.from) || end.After(l.until) {
		return
	}
	if failure != "" {
		l.failures[failure]++
	} else {
		l.latencies = append(l.latencies, end.Sub(start).Seconds()*1000)
	}
}

// one makes one call that was due at `start`.
func (l *load) one(t transport, worker int, start time.Time) {
	body, id := l.next()
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	answer, failure := t.call(ctx, worker, body)
	cancel()
	l.note(start, id, answer, failure)
}

// closed keeps n calls in flight.
func (l *load) closed(t transport, n int) {
	var workers sync.WaitGroup
	for worker := range n {
		workers.Go(func() {
			for time.Now().Before(l.until) {
				l.one(t, worker, time.Now())
			}
		})
	}
	workers.Wait()
}

// open starts `rate` calls a second whatever becomes of them. A call's time runs from when it was
// due, so a generator or server that falls behind cannot hide it.
func (l *load) open(t transport, rate float64) {
	var calls sync.WaitGroup
	begin := time.Now()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if due.After(l.until) {
			break
		}
		time.Sleep(time.Until(due))
		calls.Go(func() { l.one(t, n, due) })
	}
	calls.Wait()
}

func (l *load) report(measured time.Duration) map[string]any {
	sort.Float64s(l.latencies)
	at := func(share float64) any {
		if len(l.latencies) == 0 {
			return nil
		}
		return l.latencies[int(share*float64(len(l.latencies)-1))]
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail("getrusage: %v", err)
	}
	return map[string]any{
		"seconds":     measured.Seconds(),
		"answers":     len(l.latencies),
		"rate":        float64(len(l.latencies)) / measured.Seconds(),
		"failures":    l.failures,
		"p50_ms":      at(0.50),
		"p99_ms":      at(0.99),
		"max_ms":      at(1),
		"answered":    l.answered,
		"cpu_seconds": time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds(),
	}
}

func main() {
	target := flag.String("target", "", "host:port or unix:PATH")
	method := flag.String("method", "", "/package.Service/Method of gRPC; with -http the path")
	templates := flag.String("templates", "", "file of bodies, each after its length (big-endian uint32)")
	metadata := flag.String("metadata", "", "name=value;name=value: metadata or headers of every call")
	http := flag.Bool("http", false, "POST the bodies over HTTP/1.1 instead of gRPC")
	streams := flag.Int("streams", 0, "send the calls as messages on so many gRPC streams")
	inflight := flag.Int("inflight", 1, "closed loop: so many calls in flight (over all streams)")
	rate := flag.Float64("rate", 0, "open loop: so many calls a second")
	connections := flag.Int("connections", 4, "connections, at most one a call in flight")
	seconds := flag.Duration("for", 5*time.Second, "how long to measure")
	warmup := flag.Duration("warmup", time.Second, "how long to run before that")
	timeout := flag.Duration("timeout", 30*time.Second, "deadline of a call")
	expect := flag.String("expect", "", "text;text: what every answer must hold; the marker in it is the call's id")
	flag.Parse()
	// One thread: waking a second for each answer costs more CPU than it saves, and the server needs it.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(800)
	if *target == "" || *method == "" || *templates == "" || flag.NArg() > 0 {
		fail("-target, -method and -templates are needed, and nothing else")
	}

	l := &load{
		templates: read(*templates), expect: strings.Split(*expect, ";"), timeout: *timeout,
		nonce: uint32(time.Now().UnixNano()), failures: map[string]int{},
	}
	headers := [][2]string{}
	for _, pair := range strings.Split(*metadata, ";") {
		if name, value, found := strings.Cut(pair, "="); found {
			headers = append(headers, [2]string{name, value})
		}
	}
	var t transport
	switch {
	case *http:
		t = newHTTP(*target, *method, headers, max(*inflight, *connections))
	case *streams > 0:
		t = newStreams(l, *target, *method, headers, *streams)
	default:
		t = newUnary(*target, *method, headers, min(*connections, max(*inflight, int(*rate))))
	}
	l.from = time.Now().Add(*warmup)
	l.until = l.from.Add(*seconds)
	if *rate > 0 {
		l.open(t, *rate)
	} else {
		l.closed(t, *inflight)
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.report(*seconds)); err != nil {
		fail("%v", err)
	}
}

// read returns the templates of a file.
func read(path string) [][]byte {
	content, err := os.ReadFile(path)
	if err != nil {
		fail("%v", err)
	}
	var found [][]byte
	for len(content) >= 4 {
		size := int(binary.BigEndian.Uint32(content))
		if size > len(content)-4 {
			fail("%s: the last template is cut off", path)
		}
		found = append(found, content[4:4+size])
		content = content[4+size:]
	}
	if len(found) == 0 || len(content) > 0 {
		fail("%s: no whole templates", path)
	}
	return found
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "generator: "+format+"\n", values...)
	os.Exit(1)
}
