package main

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// codec encodes messages with the library of the generated code. The gRPC of Debian 12 has an older one, which fails on them.
type codec struct{}

func init() { encoding.RegisterCodec(codec{}) }

func (codec) Name() string                      { return "proto" }
func (codec) Marshal(value any) ([]byte, error) { return proto.Marshal(value.(proto.Message)) }
func (codec) Unmarshal(data []byte, value any) error {
	return proto.Unmarshal(data, value.(proto.Message))
}
