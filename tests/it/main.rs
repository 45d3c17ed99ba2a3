//! One test binary: behaviour through the front door, and the conformance of the store engines.
