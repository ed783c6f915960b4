// Package codec has the codec of the programs.
package codec

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one replaces
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/runtime/protoimpl"
)

// codec encodes messages with the library of the generated code. The gRPC of Debian 12 has an older one, which fails on them.
type codec struct{}

func init() { encoding.RegisterCodec(codec{}) }

func (codec) Name() string { return "proto" }

func (codec) Marshal(value any) ([]byte, error) {
	return proto.Marshal(protoimpl.X.ProtoMessageV2Of(value)) // also of messages that the older library generated
}

func (codec) Unmarshal(data []byte, value any) error {
	return proto.Unmarshal(data, protoimpl.X.ProtoMessageV2Of(value))
}
