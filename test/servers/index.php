<?php
usleep(20000);
echo "php\n";
