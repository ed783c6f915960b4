// A client in C++: see ../README.md.

#include <unistd.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "stepwave/v1/orchestrator.grpc.pb.h"

using namespace stepwave::v1;
using google::protobuf::Struct;
using google::protobuf::Value;
using grpc::ClientContext;

using Visit = std::function<bool(const RunEvent&)>;

void check(bool fact, const std::string& message) {
  if (!fact) throw std::runtime_error(message);
}

void check(const grpc::Status& status) {
  check(status.ok(), std::to_string(status.error_code()) + ": " + status.error_message());
}

Value value(double number) {
  Value made;
  made.set_number_value(number);
  return made;
}

Value value(const std::string& text) {
  Value made;
  made.set_string_value(text);
  return made;
}

template <typename List>
Value list(const List& items) {
  Value made;
  for (const auto& item : items) *made.mutable_list_value()->add_values() = value(item);
  return made;
}

Struct object(const std::map<std::string, Value>& fields) {
  Struct made;
  made.mutable_fields()->insert(fields.begin(), fields.end());
  return made;
}

void add_echo(Workflow* workflow, const std::string& id, const std::vector<std::string>& depends_on = {}) {
  Step* step = workflow->add_steps();
  step->set_id(id);
  step->set_action("core.echo");
  step->mutable_depends_on()->Add(depends_on.begin(), depends_on.end());
}

Workflow diamond() {
  Workflow workflow;
  workflow.set_name("diamond");
  add_echo(&workflow, "a");
  add_echo(&workflow, "b", {"a"});
  add_echo(&workflow, "c", {"a"});
  add_echo(&workflow, "d", {"b", "c"});
  workflow.mutable_steps(0)->mutable_input()->set_json("1");
  return workflow;
}

Workflow sleeping() {
  Workflow workflow;
  workflow.set_name("sleeping");
  Step* step = workflow.add_steps();
  step->set_id("a");
  step->set_action("core.sleep");
  step->mutable_input()->set_json(R"({"seconds": 600})");
  return workflow;
}

ExecuteWorkflowRequest execute_request(const Workflow& workflow) {
  ExecuteWorkflowRequest request;
  *request.mutable_workflow() = workflow;
  return request;
}

/// The numbered events of a stream, its last sequence, and its status.
struct History {
  std::vector<RunEvent> events;
  unsigned last = 0;
  grpc::Status status;
};

/// Read the events of a stream. If `until` returns true, cancel the stream.
template <typename Message>
History read(ClientContext* context, std::unique_ptr<grpc::ClientReader<Message>> stream, const Visit& until) {
  History history;
  Message message;
  while (stream->Read(&message)) {
    if (message.last_sequence() > 0) history.last = message.last_sequence();
    for (const RunEvent& event : message.events()) {
      if (event.sequence() > 0) history.events.push_back(event);
      if (until(event)) context->TryCancel();
    }
  }
  history.status = stream->Finish();
  return history;
}

bool never(const RunEvent&) { return false; }

void check_sequences(const std::vector<RunEvent>& events) {
  for (std::size_t index = 0; index < events.size(); index++)
    check(events[index].sequence() == index + 1, "wrong sequence at " + std::to_string(index));
}

/// Return the result in the last event.
const Result& result_of(const std::vector<RunEvent>& events) {
  check(!events.empty() && events.back().has_run_finished(), "the stream does not end with run_finished");
  return events.back().run_finished().result();
}

Value state(const Result& result) { return value(State_Name(result.state())); }

Value code(const grpc::Status& status) {
  return value(google::rpc::Code_Name(static_cast<google::rpc::Code>(status.error_code())));
}

class Client {
 public:
  explicit Client(const std::string& address)
      : stub_(OrchestratorService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

  Struct plan() {
    ClientContext context;
    PlanWorkflowRequest request;
    *request.mutable_workflow() = diamond();
    PlanWorkflowResponse response;
    check(stub_->PlanWorkflow(&context, request, &response));
    std::vector<std::string> steps;
    for (const PlannedStep& step : response.plan().steps()) steps.push_back(step.step_id());
    return object({{"wave_sizes", list(response.plan().wave_sizes())}, {"steps", list(steps)}});
  }

  Struct execute() {
    const History history = run(execute_request(diamond()));
    check(history.status);
    check_sequences(history.events);
    const Result& result = result_of(history.events);
    const std::string output = result.outputs().at("d").json();
    return object({{"events", value(history.events.size())}, {"state", state(result)}, {"output", value(output)}});
  }

  Struct resume() {
    const std::string run_id = start(sleeping());
    const History first = watch(run_id, 0, [](const RunEvent& event) { return event.has_step_started(); });
    cancel_run(run_id);
    const History second = watch(run_id, first.last);
    check(second.status);
    std::vector<RunEvent> events = first.events;
    events.insert(events.end(), second.events.begin(), second.events.end());
    check_sequences(events);
    return object({{"state", state(result_of(events))}});
  }

  Struct invalid() {
    Workflow cycle;
    cycle.set_name("cycle");
    add_echo(&cycle, "a", {"b"});
    add_echo(&cycle, "b", {"a"});
    cycle.mutable_steps(1)->set_action("missing");
    const History history = run(execute_request(cycle));
    google::rpc::Status status;
    check(status.ParseFromString(history.status.error_details()), "the status could not be decoded");
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest request;
    for (const google::protobuf::Any& detail : status.details()) {
      if (detail.Is<google::rpc::ErrorInfo>()) check(detail.UnpackTo(&info), "ErrorInfo could not be decoded");
      if (detail.Is<google::rpc::BadRequest>()) check(detail.UnpackTo(&request), "BadRequest could not be decoded");
    }
    std::vector<std::string> fields;
    for (const auto& violation : request.field_violations()) fields.push_back(violation.field());
    return object({{"code", code(history.status)},
                   {"reason", value(info.reason())},
                   {"domain", value(info.domain())},
                   {"fields", list(fields)}});
  }

  Struct cancel() {
    const History history = run(execute_request(sleeping()), [this](const RunEvent& event) {
      if (event.has_step_started()) cancel_run(event.run_id());
      return false;
    });
    check(history.status);
    return object({{"state", state(result_of(history.events))}});
  }

  Struct deadline() {
    ClientContext context;
    GetServerInfoResponse info;
    check(stub_->GetServerInfo(&context, GetServerInfoRequest(), &info));
    const std::string run_id = "cpp-deadline-" + std::to_string(getpid());
    ExecuteWorkflowRequest request = execute_request(sleeping());
    request.set_run_id(run_id);
    const History exceeded = run(request, never, std::chrono::milliseconds(500));
    const History history = watch(run_id, 0);
    check(history.status);
    return object({{"code", code(exceeded.status)}, {"state", state(result_of(history.events))}});
  }

  Struct paging() {
    Workflow workflow = diamond();
    const std::string set = "cpp-paging-" + std::to_string(getpid());
    workflow.mutable_labels()->insert({"set", set});
    for (int count = 0; count < 5; count++) start(workflow);

    ListRunsRequest request;
    request.mutable_labels()->insert({"set", set});
    request.set_page_size(2);
    std::vector<int> pages;
    std::set<std::string> runs;
    do {
      ClientContext context;
      ListRunsResponse page;
      check(stub_->ListRuns(&context, request, &page));
      pages.push_back(page.runs_size());
      for (const Run& run : page.runs()) runs.insert(run.run_id());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    return object({{"pages", list(pages)}, {"runs", value(runs.size())}});
  }

 private:
  std::string start(const Workflow& workflow) {
    ClientContext context;
    StartRunRequest request;
    *request.mutable_workflow() = workflow;
    StartRunResponse response;
    check(stub_->StartRun(&context, request, &response));
    return response.run().run_id();
  }

  void cancel_run(const std::string& run_id) {
    ClientContext context;
    CancelRunRequest request;
    request.set_run_id(run_id);
    CancelRunResponse response;
    check(stub_->CancelRun(&context, request, &response));
  }

  History run(const ExecuteWorkflowRequest& request, const Visit& until = never,
              std::chrono::milliseconds timeout = std::chrono::minutes(1)) {
    ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    return read(&context, stub_->ExecuteWorkflow(&context, request), until);
  }

  History watch(const std::string& run_id, unsigned after_sequence, const Visit& until = never) {
    ClientContext context;
    WatchRunRequest request;
    request.set_run_id(run_id);
    request.set_after_sequence(after_sequence);
    return read(&context, stub_->WatchRun(&context, request), until);
  }

  std::unique_ptr<OrchestratorService::Stub> stub_;
};

const std::map<std::string, Struct (Client::*)()> scenarios = {
    {"plan", &Client::plan},     {"execute", &Client::execute},   {"resume", &Client::resume}, {"invalid", &Client::invalid},
    {"cancel", &Client::cancel}, {"deadline", &Client::deadline}, {"paging", &Client::paging},
};

int main(int, char** arguments) {
  try {
    Client client(arguments[1]);
    std::string json;
    const auto written = google::protobuf::util::MessageToJsonString((client.*scenarios.at(arguments[2]))(), &json);
    check(written.ok(), "the answer could not be written as JSON");
    std::cout << json << std::endl;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
