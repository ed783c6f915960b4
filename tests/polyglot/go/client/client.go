// A client in Go: see ../../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	_ "codec"
	stepwave "stepwave/v1"
)

type object = map[string]any

type orchestrator struct {
	stepwave.OrchestratorServiceClient
}

var scenarios = map[string]func(orchestrator, context.Context) object{
	"plan":     orchestrator.plan,
	"execute":  orchestrator.execute,
	"resume":   orchestrator.resume,
	"invalid":  orchestrator.invalid,
	"cancel":   orchestrator.cancel,
	"deadline": orchestrator.deadline,
	"paging":   orchestrator.paging,
}

func echo(id string, dependsOn ...string) *stepwave.Step {
	return &stepwave.Step{Id: id, Action: "core.echo", DependsOn: dependsOn}
}

func jsonPayload(text string) *stepwave.Payload {
	return &stepwave.Payload{Body: &stepwave.Payload_Json{Json: text}}
}

func diamond() *stepwave.Workflow {
	a := echo("a")
	a.Input = jsonPayload("1")
	steps := []*stepwave.Step{a, echo("b", "a"), echo("c", "a"), echo("d", "b", "c")}
	return &stepwave.Workflow{Name: "diamond", Steps: steps}
}

func sleeping() *stepwave.Workflow {
	step := &stepwave.Step{Id: "a", Action: "core.sleep", Input: jsonPayload(`{"seconds": 600}`)}
	return &stepwave.Workflow{Name: "sleeping", Steps: []*stepwave.Step{step}}
}

// must returns the value. An error ends the program.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// message is a message of the streams of ExecuteWorkflow and WatchRun.
type message interface {
	GetEvents() []*stepwave.RunEvent
	GetLastSequence() uint32
}

// history holds the numbered events of a stream, and its last sequence.
type history struct {
	events []*stepwave.RunEvent
	last   uint32
}

// read reads the events of a stream. If until returns true, it reads no further messages.
func read[M message](receive func() (M, error), until func(*stepwave.RunEvent) bool) (history, error) {
	var read history
	for stop := false; !stop; {
		next, err := receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return read, err
		}
		if next.GetLastSequence() > 0 {
			read.last = next.GetLastSequence()
		}
		for _, event := range next.GetEvents() {
			if event.GetSequence() > 0 {
				read.events = append(read.events, event)
			}
			stop = stop || until(event)
		}
	}
	return read, nil
}

func never(*stepwave.RunEvent) bool { return false }

func checkSequences(events []*stepwave.RunEvent) {
	for index, event := range events {
		if event.GetSequence() != uint32(index+1) {
			log.Fatalf("sequence %d at %d", event.GetSequence(), index)
		}
	}
}

// end returns the result in the last event.
func end(events []*stepwave.RunEvent) *stepwave.Result {
	if len(events) == 0 || events[len(events)-1].GetRunFinished() == nil {
		log.Fatal("the stream does not end with run_finished")
	}
	return events[len(events)-1].GetRunFinished().GetResult()
}

func codeName(err error) string {
	return code.Code(status.Code(err)).String()
}

func (o orchestrator) start(ctx context.Context, workflow *stepwave.Workflow) *stepwave.Run {
	definition := &stepwave.StartRunRequest_Workflow{Workflow: workflow}
	return must(o.StartRun(ctx, &stepwave.StartRunRequest{Definition: definition})).GetRun()
}

func (o orchestrator) run(
	ctx context.Context, workflow *stepwave.Workflow, runID string, until func(*stepwave.RunEvent) bool,
) (history, error) {
	definition := &stepwave.ExecuteWorkflowRequest_Workflow{Workflow: workflow}
	request := &stepwave.ExecuteWorkflowRequest{Definition: definition, RunId: runID}
	stream := must(o.ExecuteWorkflow(ctx, request))
	return read(stream.Recv, until)
}

func (o orchestrator) watch(
	ctx context.Context, runID string, after uint32, until func(*stepwave.RunEvent) bool,
) history {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := must(o.WatchRun(ctx, &stepwave.WatchRunRequest{RunId: runID, AfterSequence: after}))
	return must(read(stream.Recv, until))
}

func (o orchestrator) plan(ctx context.Context) object {
	definition := &stepwave.PlanWorkflowRequest_Workflow{Workflow: diamond()}
	plan := must(o.PlanWorkflow(ctx, &stepwave.PlanWorkflowRequest{Definition: definition})).GetPlan()
	var steps []string
	for _, step := range plan.GetSteps() {
		steps = append(steps, step.GetStepId())
	}
	return object{"wave_sizes": plan.GetWaveSizes(), "steps": steps}
}

func (o orchestrator) execute(ctx context.Context) object {
	events := must(o.run(ctx, diamond(), "", never)).events
	checkSequences(events)
	result := end(events)
	output := result.GetOutputs()["d"].GetJson()
	return object{"events": len(events), "state": result.GetState().String(), "output": output}
}

func (o orchestrator) resume(ctx context.Context) object {
	run := o.start(ctx, sleeping())
	stepStarted := func(event *stepwave.RunEvent) bool { return event.GetStepStarted() != nil }
	first := o.watch(ctx, run.GetRunId(), 0, stepStarted)
	must(o.CancelRun(ctx, &stepwave.CancelRunRequest{RunId: run.GetRunId()}))
	second := o.watch(ctx, run.GetRunId(), first.last, never)
	events := append(first.events, second.events...)
	checkSequences(events)
	return object{"state": end(events).GetState().String()}
}

func (o orchestrator) invalid(ctx context.Context) object {
	b := &stepwave.Step{Id: "b", Action: "missing", DependsOn: []string{"a"}}
	cycle := &stepwave.Workflow{Name: "cycle", Steps: []*stepwave.Step{echo("a", "b"), b}}
	_, err := o.run(ctx, cycle, "", never)
	shown := object{"code": codeName(err)}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			shown["reason"], shown["domain"] = detail.GetReason(), detail.GetDomain()
		case *errdetails.BadRequest:
			var fields []string
			for _, violation := range detail.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
			shown["fields"] = fields
		case error: // a detail that could not be decoded
			log.Fatal(detail)
		}
	}
	return shown
}

func (o orchestrator) cancel(ctx context.Context) object {
	cancelStarted := func(event *stepwave.RunEvent) bool {
		if event.GetStepStarted() != nil {
			must(o.CancelRun(ctx, &stepwave.CancelRunRequest{RunId: event.GetRunId()}))
		}
		return false
	}
	events := must(o.run(ctx, sleeping(), "", cancelStarted)).events
	return object{"state": end(events).GetState().String()}
}

func (o orchestrator) deadline(ctx context.Context) object {
	must(o.GetServerInfo(ctx, &stepwave.GetServerInfoRequest{}))
	runID := fmt.Sprintf("go-deadline-%d", os.Getpid())
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := o.run(short, sleeping(), runID, never)
	events := o.watch(ctx, runID, 0, never).events
	return object{"code": codeName(err), "state": end(events).GetState().String()}
}

func (o orchestrator) paging(ctx context.Context) object {
	labels := map[string]string{"set": fmt.Sprintf("go-paging-%d", os.Getpid())}
	for count := 0; count < 5; count++ {
		workflow := diamond()
		workflow.Labels = labels
		o.start(ctx, workflow)
	}
	var pages []int
	runs := map[string]bool{}
	request := &stepwave.ListRunsRequest{Labels: labels, PageSize: 2}
	for more := true; more; more = request.PageToken != "" {
		page := must(o.ListRuns(ctx, request))
		pages = append(pages, len(page.GetRuns()))
		for _, run := range page.GetRuns() {
			runs[run.GetRunId()] = true
		}
		request.PageToken = page.GetNextPageToken()
	}
	return object{"pages": pages, "runs": len(runs)}
}

func main() {
	connection := must(grpc.Dial(os.Args[1], grpc.WithInsecure()))
	defer connection.Close()
	scenario, known := scenarios[os.Args[2]]
	if !known {
		log.Fatalf("unknown scenario %q", os.Args[2])
	}
	client := orchestrator{stepwave.NewOrchestratorServiceClient(connection)}
	shown := must(json.Marshal(scenario(client, context.Background())))
	fmt.Println(string(shown))
}
