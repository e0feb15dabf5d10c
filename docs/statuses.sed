# For Doxygen: the statuses come out of a list macro; write them as the enumerators they become.
/^\tX\(SL_/ {
	H
	x
	s/\tX\((SL_[A-Z_]+), ([0-9]+), "(.*)"\)[ \t]*\\?$/\1 = \2, \/**< \3 *\//
	x
}
/^\tSL_STATUS_LIST\(SL_STATUS_ENUM\)$/ {
	g
	s/\n/ /g
}
