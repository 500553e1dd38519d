"""The command line: one file for each verb.

Exit codes:

===  ==============================================================================
0    done
1    something was found or has stopped: a projection, a conflict, damage in the log
2    a mistake in the command, its input or a plug-in
3    the server: not reachable, refusing, or not fit
130  interrupted, or stopped at once by a second signal
===  ==============================================================================
"""
