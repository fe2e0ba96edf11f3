//! Engine.IO 4 and Socket.IO 5 as state machines.
