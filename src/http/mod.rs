//! REST, events, console.
