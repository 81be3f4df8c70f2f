// Package gather looks at the machine for the doctor, once, and judges nothing: what it returns is what a check is a
// function of. What is another user's is looked at by a child that is that user.
//
// What could not be looked at is listed, and never taken for healthy.
package gather
