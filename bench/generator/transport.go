package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// encoded passes messages through as the bytes that they are.
type encoded struct{}

func (encoded) Name() string                    { return "proto" }
func (encoded) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (encoded) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }

// dial opens n connections.
func dial(target string, n int) []*grpc.ClientConn {
	if !strings.HasPrefix(target, "unix:") {
		target = "passthrough:///" + target
	}
	connections := make([]*grpc.ClientConn, n)
	for i := range connections {
		connection, err := grpc.NewClient(target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(encoded{}), grpc.WaitForReady(true)))
		if err != nil {
			fail("%v", err)
		}
		connections[i] = connection
	}
	return connections
}

func outgoing(ctx context.Context, headers [][2]string) context.Context {
	for _, header := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	return ctx
}

// unary makes one gRPC call a body.
type unary struct {
	connections []*grpc.ClientConn
	method      string
	headers     metadata.MD
}

func newUnary(target, method string, headers [][2]string, connections int) *unary {
	md, _ := metadata.FromOutgoingContext(outgoing(context.Background(), headers))
	return &unary{connections: dial(target, connections), method: method, headers: md}
}

func (u *unary) call(ctx context.Context, worker int, body []byte) ([]byte, string) {
	var answer []byte
	connection := u.connections[worker%len(u.connections)]
	err := connection.Invoke(metadata.NewOutgoingContext(ctx, u.headers), u.method, &body, &answer)
	if err != nil {
		return nil, status.Code(err).String()
	}
	return answer, ""
}

// streams sends bodies as messages on long-lived gRPC streams and knows each answer by the id in it.
// What there is to send goes together: encoded messages of repeated fields add up by standing one
// after the other.
type streams struct {
	nonce []byte
	lanes []*lane
}

type lane struct {
	stream  grpc.ClientStream
	sending chan []byte
	waiting sync.Map // id: chan []byte
}

// together is how many bytes a message may gather.
const together = 256 * 1024

func newStreams(l *load, target, method string, headers [][2]string, n int) *streams {
	s := &streams{nonce: fmt.Appendf(nil, "%08x", l.nonce)}
	for _, connection := range dial(target, n) {
		description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		stream, err := connection.NewStream(outgoing(context.Background(), headers), description, method)
		if err != nil {
			fail("stream: %v", err)
		}
		lane := &lane{stream: stream, sending: make(chan []byte, 1024)}
		s.lanes = append(s.lanes, lane)
		go s.receive(lane)
		go lane.send()
	}
	return s
}

// ids returns the ids that a message holds, each as often as it stands there.
func (s *streams) ids(message []byte) []string {
	var found []string
	for rest := message; ; {
		at := bytes.Index(rest, s.nonce)
		if at < 0 || at+len(marker) > len(rest) {
			return found
		}
		found = append(found, string(rest[at:at+len(marker)]))
		rest = rest[at+len(marker):]
	}
}

func (l *lane) send() {
	for message := range l.sending {
		for gathering := true; gathering && len(message) < together; {
			select {
			case more := <-l.sending:
				message = append(message, more...)
			default:
				gathering = false
			}
		}
		if err := l.stream.SendMsg(&message); err != nil {
			fail("stream: %v", err)
		}
	}
}

func (s *streams) receive(lane *lane) {
	for {
		var message []byte
		if err := lane.stream.RecvMsg(&message); err != nil {
			fail("stream: %v", err)
		}
		for _, id := range s.ids(message) {
			if waiter, found := lane.waiting.LoadAndDelete(id); found {
				waiter.(chan []byte) <- message
			}
		}
	}
}

func (s *streams) call(ctx context.Context, worker int, body []byte) ([]byte, string) {
	lane := s.lanes[worker%len(s.lanes)]
	answered := make(chan []byte, 1)
	lane.waiting.Store(s.ids(body)[0], answered)
	lane.sending <- body
	select {
	case answer := <-answered:
		return answer, ""
	case <-ctx.Done():
		return nil, "DeadlineExceeded"
	}
}

// posts sends bodies by HTTP/1.1 POST.
type posts struct {
	client  *http.Client
	url     string
	headers http.Header
}

func newHTTP(target, path string, headers [][2]string, connections int) *posts {
	network, address := "tcp", target
	if socket, found := strings.CutPrefix(target, "unix:"); found {
		network, address = "unix", socket
	}
	dialer := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	p := &posts{
		client: &http.Client{Transport: &http.Transport{
			DialContext: dialer, MaxIdleConnsPerHost: connections, DisableCompression: true,
		}},
		url:     "http://server" + path,
		headers: http.Header{"Content-Type": {"application/json"}},
	}
	for _, header := range headers {
		p.headers.Set(header[0], header[1])
	}
	return p
}

func (p *posts) call(ctx context.Context, _ int, body []byte) ([]byte, string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		fail("%v", err)
	}
	request.Header = p.headers
	answer, err := p.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "DeadlineExceeded"
		}
		return nil, "Unavailable"
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, "Unavailable"
	}
	if answer.StatusCode != http.StatusOK {
		return nil, answer.Status
	}
	return content, ""
}
