// The sandbox container of the tests' pods, and the first process of the node's namespaces.
module camfleet.io/testbed/pause

go 1.24.0
