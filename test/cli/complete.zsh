# SPDX-License-Identifier: Apache-2.0
# complete.zsh FUNCTIONS LINE: what zsh offers at the end of LINE, a word each, with the completion function in the folder
# FUNCTIONS. A shell on a terminal of its own is typed to; it writes to the file "offered" what it would add.
zmodload zsh/zpty
rm -f offered ready
cat >setup.zsh <<'END'
fpath=($1 $fpath)
autoload -U compinit
compinit -u -D
compadd() {
    local -a found
    if (( ! ${#${(M)@:#-*[OAD]}} )); then # these only ask
        builtin compadd -O found "$@"
        print -rl -- $found >>offered
    fi
    builtin compadd "$@"
}
finish() { compstate[insert]=; compstate[list]=; touch done }
complete-and-finish() { comppostfuncs=(finish); zle complete-word }
zle -N complete-and-finish
bindkey '^I' complete-and-finish
zle-line-init() { touch ready }
zle -N zle-line-init
END
rm -f done
zpty -b shell "env TERM=dumb PS1= zsh -f -i"
zpty -w shell "source ./setup.zsh $1"
# until_it_is FILE: waits until it is there, for a minute.
until_it_is() {
    local -i tries=0
    until [[ -e $1 ]]; do
        zpty -r -t shell >/dev/null
        ((tries++ < 3000)) || { print -u2 "zsh did not answer"; exit 1 }
        sleep 0.02
    done
}
until_it_is ready
zpty -w -n shell "$2"$'\t'
until_it_is done
zpty -d shell
[[ ! -e offered ]] || grep . offered | sort -u
exit 0
