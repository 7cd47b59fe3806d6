package agent

// AsAgent is the environment variable that makes the test binary an agent: its value is the
// configuration file.
const AsAgent = "WEIR_TEST_AGENT"
