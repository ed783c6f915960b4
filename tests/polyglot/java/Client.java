// A client in Java: see ../README.md.

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Predicate;
import stepwave.v1.CancelRunRequest;
import stepwave.v1.ExecuteWorkflowRequest;
import stepwave.v1.ExecuteWorkflowResponse;
import stepwave.v1.GetServerInfoRequest;
import stepwave.v1.ListRunsRequest;
import stepwave.v1.ListRunsResponse;
import stepwave.v1.OrchestratorServiceGrpc;
import stepwave.v1.OrchestratorServiceGrpc.OrchestratorServiceBlockingStub;
import stepwave.v1.Payload;
import stepwave.v1.Plan;
import stepwave.v1.PlanWorkflowRequest;
import stepwave.v1.PlannedStep;
import stepwave.v1.Result;
import stepwave.v1.Run;
import stepwave.v1.RunEvent;
import stepwave.v1.StartRunRequest;
import stepwave.v1.Step;
import stepwave.v1.WatchRunRequest;
import stepwave.v1.WatchRunResponse;
import stepwave.v1.Workflow;

final class Client {
  private static final Workflow DIAMOND =
      Workflow.newBuilder()
          .setName("diamond")
          .addSteps(echo("a").toBuilder().setInput(json("1")))
          .addSteps(echo("b", "a"))
          .addSteps(echo("c", "a"))
          .addSteps(echo("d", "b", "c"))
          .build();
  private static final Workflow SLEEPING =
      Workflow.newBuilder()
          .setName("sleeping")
          .addSteps(Step.newBuilder().setId("a").setAction("core.sleep").setInput(json("{\"seconds\": 600}")))
          .build();

  private final OrchestratorServiceBlockingStub stub;

  private Client(OrchestratorServiceBlockingStub stub) {
    this.stub = stub;
  }

  private static Step echo(String id, String... dependsOn) {
    return Step.newBuilder().setId(id).setAction("core.echo").addAllDependsOn(List.of(dependsOn)).build();
  }

  private static Payload json(String text) {
    return Payload.newBuilder().setJson(text).build();
  }

  /** The numbered events of a stream, and its last sequence. */
  private record History(List<RunEvent> events, int last) {}

  /** Read the events of a stream. If `until` is true of one, read no further messages. */
  private static <M> History read(
      Iterator<M> stream,
      Function<M, List<RunEvent>> eventsOf,
      Function<M, Integer> lastOf,
      Predicate<RunEvent> until) {
    List<RunEvent> events = new ArrayList<>();
    int last = 0;
    boolean stop = false;
    while (!stop && stream.hasNext()) {
      M message = stream.next();
      last = lastOf.apply(message) > 0 ? lastOf.apply(message) : last;
      for (RunEvent event : eventsOf.apply(message)) {
        if (event.getSequence() > 0) {
          events.add(event);
        }
        stop |= until.test(event);
      }
    }
    return new History(events, last);
  }

  private History run(OrchestratorServiceBlockingStub stub, ExecuteWorkflowRequest request, Predicate<RunEvent> until) {
    return read(
        stub.executeWorkflow(request),
        ExecuteWorkflowResponse::getEventsList,
        ExecuteWorkflowResponse::getLastSequence,
        until);
  }

  private History run(ExecuteWorkflowRequest.Builder request) {
    return run(stub, request.build(), event -> false);
  }

  private History watch(String runId, int afterSequence, Predicate<RunEvent> until) throws Exception {
    WatchRunRequest request =
        WatchRunRequest.newBuilder().setRunId(runId).setAfterSequence(afterSequence).build();
    Context.CancellableContext context = Context.current().withCancellation();
    try {
      return context.call(
          () ->
              read(
                  stub.watchRun(request), WatchRunResponse::getEventsList, WatchRunResponse::getLastSequence, until));
    } finally {
      context.cancel(null);
    }
  }

  private Run start(Workflow workflow) {
    return stub.startRun(StartRunRequest.newBuilder().setWorkflow(workflow).build()).getRun();
  }

  private void cancelRun(String runId) {
    stub.cancelRun(CancelRunRequest.newBuilder().setRunId(runId).build());
  }

  private static ExecuteWorkflowRequest.Builder request(Workflow workflow) {
    return ExecuteWorkflowRequest.newBuilder().setWorkflow(workflow);
  }

  private static void check(boolean fact, String message) {
    if (!fact) {
      throw new IllegalStateException(message);
    }
  }

  private static void checkSequences(List<RunEvent> events) {
    for (int index = 0; index < events.size(); index++) {
      int sequence = events.get(index).getSequence();
      check(sequence == index + 1, "sequence " + sequence + " at " + index);
    }
  }

  /** Return the result in the last event. */
  private static Result end(List<RunEvent> events) {
    check(!events.isEmpty(), "the stream has no events");
    RunEvent last = events.get(events.size() - 1);
    check(last.hasRunFinished(), "the stream does not end with run_finished");
    return last.getRunFinished().getResult();
  }

  private Map<String, Object> plan() {
    Plan plan = stub.planWorkflow(PlanWorkflowRequest.newBuilder().setWorkflow(DIAMOND).build()).getPlan();
    List<String> steps = plan.getStepsList().stream().map(PlannedStep::getStepId).toList();
    return Map.of("wave_sizes", plan.getWaveSizesList(), "steps", steps);
  }

  private Map<String, Object> execute() {
    List<RunEvent> events = run(request(DIAMOND)).events();
    checkSequences(events);
    Result result = end(events);
    String output = result.getOutputsOrThrow("d").getJson();
    return Map.of("events", events.size(), "state", result.getState(), "output", output);
  }

  private Map<String, Object> resume() throws Exception {
    Run run = start(SLEEPING);
    History first = watch(run.getRunId(), 0, RunEvent::hasStepStarted);
    cancelRun(run.getRunId());
    History second = watch(run.getRunId(), first.last(), event -> false);
    List<RunEvent> events = new ArrayList<>(first.events());
    events.addAll(second.events());
    checkSequences(events);
    return Map.of("state", end(events).getState());
  }

  private static StatusRuntimeException refused(Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return error;
    }
    throw new IllegalStateException("the call succeeded");
  }

  private Map<String, Object> invalid() throws InvalidProtocolBufferException {
    Step missing = Step.newBuilder().setId("b").setAction("missing").addDependsOn("a").build();
    Workflow cycle = Workflow.newBuilder().setName("cycle").addSteps(echo("a", "b")).addSteps(missing).build();
    StatusRuntimeException error = refused(() -> run(request(cycle)));
    Map<String, Object> shown = new HashMap<>(Map.of("code", error.getStatus().getCode()));
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        ErrorInfo info = detail.unpack(ErrorInfo.class);
        shown.putAll(Map.of("reason", info.getReason(), "domain", info.getDomain()));
      }
      if (detail.is(BadRequest.class)) {
        List<BadRequest.FieldViolation> violations = detail.unpack(BadRequest.class).getFieldViolationsList();
        shown.put("fields", violations.stream().map(BadRequest.FieldViolation::getField).toList());
      }
    }
    return shown;
  }

  private Map<String, Object> cancel() {
    Predicate<RunEvent> cancelStarted =
        event -> {
          if (event.hasStepStarted()) {
            cancelRun(event.getRunId());
          }
          return false;
        };
    List<RunEvent> events = run(stub, request(SLEEPING).build(), cancelStarted).events();
    return Map.of("state", end(events).getState());
  }

  private Map<String, Object> deadline() throws Exception {
    stub.getServerInfo(GetServerInfoRequest.getDefaultInstance());
    String runId = "java-deadline-" + ProcessHandle.current().pid();
    OrchestratorServiceBlockingStub hurried = stub.withDeadlineAfter(500, TimeUnit.MILLISECONDS);
    ExecuteWorkflowRequest request = request(SLEEPING).setRunId(runId).build();
    Status status = refused(() -> run(hurried, request, event -> false)).getStatus();
    List<RunEvent> events = watch(runId, 0, event -> false).events();
    return Map.of("code", status.getCode(), "state", end(events).getState());
  }

  private Map<String, Object> paging() {
    String set = "java-paging-" + ProcessHandle.current().pid();
    for (int count = 0; count < 5; count++) {
      start(DIAMOND.toBuilder().putLabels("set", set).build());
    }
    List<Integer> pages = new ArrayList<>();
    Set<String> runs = new HashSet<>();
    ListRunsRequest.Builder request = ListRunsRequest.newBuilder().putLabels("set", set).setPageSize(2);
    do {
      ListRunsResponse page = stub.listRuns(request.build());
      pages.add(page.getRunsCount());
      page.getRunsList().forEach(run -> runs.add(run.getRunId()));
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
    return Map.of("pages", pages, "runs", runs.size());
  }

  private Map<String, Object> play(String scenario) throws Exception {
    return switch (scenario) {
      case "plan" -> plan();
      case "execute" -> execute();
      case "resume" -> resume();
      case "invalid" -> invalid();
      case "cancel" -> cancel();
      case "deadline" -> deadline();
      case "paging" -> paging();
      default -> throw new IllegalArgumentException("unknown scenario " + scenario);
    };
  }

  /** Run the scenario. An exception ends the program with exit code 1. */
  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      Client client = new Client(OrchestratorServiceGrpc.newBlockingStub(channel));
      System.out.println(new Gson().toJson(client.play(arguments[1])));
    } finally {
      channel.shutdownNow();
    }
  }
}
