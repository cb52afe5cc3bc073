package sandbox

// foreignCalls is empty: this architecture has one ABI.
var foreignCalls []call
