package agent

// AsAgent is the environment variable that makes the test binary an agent: its value is the
// configuration file.
const AsAgent = "WEIR_TEST_AGENT"

// WithCaps holds the names of the only capabilities that it has from the beginning, when it is set.
const WithCaps = "WEIR_TEST_CAPS"

// AsSender makes the test binary a process that sends one datagram: "from to".
const AsSender = "WEIR_TEST_SENDER"
