# Types each of its arguments at a prompt, and runs it there. The pauses are for whoever reads.
pause() { read -rt "$1" <> <(:) || :; }
clear
for command; do
	printf '\e[1;32m$\e[0m '
	for ((i = 0; i < ${#command}; i++)); do
		printf %s "${command:i:1}"
		pause 0.03
	done
	pause 0.5
	echo
	eval "$command"
	pause 1.5
done
printf '\e[1;32m$\e[0m '
pause 4
