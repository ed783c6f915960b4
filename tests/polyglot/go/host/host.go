// A host of actions in Go, `host LISTEN`: see ../../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	_ "codec"
	stepwave "stepwave/v1"
)

type object = map[string]any

// call is an attempt, its input, and what sends a message of its stream.
type call struct {
	*stepwave.Attempt
	input object
	send  func(*stepwave.StreamResponse) error
}

// An action returns the answer, or nil if its chunks are the answer.
type action func(context.Context, call) (any, error)

// failed is the failure of an action.
type failed struct{ *stepwave.Failure }

func (f failed) Error() string { return f.GetMessage() }

var actions = map[string]action{"greet": greet, "count": count, "fail": fail, "slow": slow, "twice": twice}

func greet(ctx context.Context, call call) (any, error) {
	name, ok := call.input["name"].(string)
	if !ok {
		return nil, errors.New("name: not a string")
	}
	values, _ := metadata.FromIncomingContext(ctx)
	deadline, _ := ctx.Deadline()
	return object{
		"text":        "Hello, " + name,
		"key":         call.GetIdempotencyKey(),
		"traceparent": values.Get("traceparent"),
		"left":        time.Until(deadline).Seconds(),
		"pid":         os.Getpid(),
	}, nil
}

func count(_ context.Context, call call) (any, error) {
	most := call.input["most"].(float64)
	message := &stepwave.Log{Message: fmt.Sprintf("counting to %v", most)}
	if err := call.send(&stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Log{Log: message}}); err != nil {
		return nil, err
	}
	for number := 1.0; number <= most; number++ {
		if err := call.send(chunk(fmt.Sprintf("%v ", number))); err != nil {
			return nil, err
		}
		fraction := number / most
		progress := &stepwave.Progress{Fraction: &fraction, Message: fmt.Sprintf("counted to %v", number)}
		if err := call.send(&stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Progress{Progress: progress}}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func fail(_ context.Context, call call) (any, error) {
	return nil, failed{&stepwave.Failure{
		Reason:     stepwave.FailureReason_FAILURE_REASON_RATE_LIMITED,
		Message:    "too many reservations",
		Retryable:  call.input["retryable"].(bool),
		RetryAfter: durationpb.New(10 * time.Millisecond),
		Details:    map[string]string{"shop": "north"},
	}}
}

// slow lasts until it is interrupted in the first attempt. The next one answers.
func slow(ctx context.Context, call call) (any, error) {
	if call.GetAttempt() > 1 {
		return object{"attempt": call.GetAttempt()}, nil
	}
	if err := call.send(chunk("begun")); err != nil {
		return nil, err
	}
	<-ctx.Done()
	fmt.Println("interrupted", call.GetRunId())
	return nil, ctx.Err()
}

// twice breaks the contract.
func twice(_ context.Context, call call) (any, error) {
	return 2, call.send(output(1))
}

func payload(value any) *stepwave.Payload {
	text, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	return &stepwave.Payload{Body: &stepwave.Payload_Json{Json: string(text)}}
}

func chunk(value any) *stepwave.StreamResponse {
	return &stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Chunk{Chunk: payload(value)}}
}

func output(value any) *stepwave.StreamResponse {
	return &stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Output{Output: payload(value)}}
}

// host serves the actions. It has Stream alone.
type host struct {
	stepwave.UnimplementedRunnableServiceServer
}

// Stream runs an attempt.
func (host) Stream(request *stepwave.StreamRequest, stream stepwave.RunnableService_StreamServer) error {
	attempt := request.GetAttempt()
	if attempt.GetInput() == nil {
		return status.Error(codes.InvalidArgument, "an attempt has an input")
	}
	run, known := actions[attempt.GetAction()]
	if !known {
		return status.Errorf(codes.NotFound, "unknown action %q", attempt.GetAction())
	}
	call := call{Attempt: attempt, send: stream.Send}
	if err := json.Unmarshal([]byte(attempt.GetInput().GetJson()), &call.input); err != nil {
		return status.Errorf(codes.InvalidArgument, "the input is not an object: %v", err)
	}
	answer, err := run(stream.Context(), call)
	var failure failed
	switch {
	case errors.As(err, &failure):
		return stream.Send(&stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Failure{Failure: failure.Failure}})
	case err != nil:
		reason := stepwave.FailureReason_FAILURE_REASON_ACTION_ERROR
		thrown := &stepwave.Failure{Reason: reason, Message: err.Error(), Retryable: true}
		return stream.Send(&stepwave.StreamResponse{Kind: &stepwave.StreamResponse_Failure{Failure: thrown}})
	case answer != nil:
		return stream.Send(output(answer))
	}
	return nil
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server, checks := grpc.NewServer(), health.NewServer()
	stepwave.RegisterRunnableServiceServer(server, host{})
	grpc_health_v1.RegisterHealthServer(server, checks)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		checks.Shutdown() // servers send no more attempts
		fmt.Println("draining")
		server.GracefulStop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
